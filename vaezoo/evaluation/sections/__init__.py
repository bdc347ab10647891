"""The sections of an evaluation: one function per group of metrics.

A subject is a model, or any other object with the image API.
"""

from vaezoo.evaluation.sections.generation import generated
from vaezoo.evaluation.sections.interpolation import interpolation
from vaezoo.evaluation.sections.labels import anomalies, disentanglement, probed
from vaezoo.evaluation.sections.latent_space import latent_space
from vaezoo.evaluation.sections.likelihood import likelihood
from vaezoo.evaluation.sections.numbers import Numbers, Vectors, mean_of
from vaezoo.evaluation.sections.reconstruction import reconstruction

__all__ = [
    "Numbers",
    "Vectors",
    "anomalies",
    "disentanglement",
    "generated",
    "interpolation",
    "latent_space",
    "likelihood",
    "mean_of",
    "probed",
    "reconstruction",
]
