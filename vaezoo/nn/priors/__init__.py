"""Priors p(z) over codes."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import PRIORS
from vaezoo.config.validation import create
from vaezoo.nn.priors.base import PriorModel
from vaezoo.nn.priors.flows import Flow
from vaezoo.nn.priors.gaussian import Conditional, Normal
from vaezoo.nn.priors.mixtures import GaussianMixture, Vamp
from vaezoo.nn.priors.spherical import UniformSphere

_CLASSES: dict[str, type[PriorModel]] = dict(
    zip(PRIORS, (Normal, Vamp, GaussianMixture, Flow, UniformSphere, Conditional), strict=True)
)


def make_prior(
    name: str,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    options: Mapping[str, Any] | None = None,
    classes: int | None = None,
) -> PriorModel:
    """The prior called ``name``, created with ``options``; ConfigError for an unknown name or option.

    ``classes`` is the number of labels of a model that takes them.
    """
    return create(
        "model.prior", _CLASSES, name, options, image_shape=image_shape, latent_dim=latent_dim, classes=classes
    )
