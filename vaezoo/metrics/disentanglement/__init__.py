"""Disentanglement scores of codes against known factors, from arrays."""

from vaezoo.metrics.disentanglement.evaluate import DEFAULT_SIZES, Score, Sizes, evaluate_disentanglement
from vaezoo.metrics.disentanglement.information import (
    discretize,
    entropies,
    mig_from_mutual_information,
    modularity_from_mutual_information,
    mutual_information_matrix,
)
from vaezoo.metrics.disentanglement.interventions import beta_vae_score, factor_vae_score
from vaezoo.metrics.disentanglement.prediction import (
    boosted_importance,
    dci_from_importance,
    sap_from_scores,
    sap_scores,
)
from vaezoo.metrics.disentanglement.samplers import EncodedImages, EncodedLattice, FactorSampler

__all__ = [
    "DEFAULT_SIZES",
    "EncodedImages",
    "EncodedLattice",
    "FactorSampler",
    "Score",
    "Sizes",
    "beta_vae_score",
    "boosted_importance",
    "dci_from_importance",
    "discretize",
    "entropies",
    "evaluate_disentanglement",
    "factor_vae_score",
    "mig_from_mutual_information",
    "modularity_from_mutual_information",
    "mutual_information_matrix",
    "sap_from_scores",
    "sap_scores",
]
