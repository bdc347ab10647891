"""Bounds on the likelihood and their terms."""

from typing import Any

from torch import Tensor

from vaezoo import metrics
from vaezoo.evaluation import index_priors
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.per_image import NO_POSTERIOR
from vaezoo.evaluation.sections.numbers import Number, Numbers, Vectors, mean_of, missing, names_of
from vaezoo.evaluation.settings import BOUND_FLOPS
from vaezoo.metrics import bounds

GIVEN_LABEL = "the model is one of images given their label, p(x|y), whose bounds are other quantities"
OF_INDEX_PRIOR = ("prior_rate", "elbo_prior")
LEAST_BOUND_IMAGES = 500


def likelihood(subject: Any, inputs: Inputs) -> tuple[Numbers, Vectors]:
    """ELBO at beta = 1, recon and KL, and the importance-weighted bound, in nats; bits per dimension."""
    seed, labels = inputs.settings.seed, inputs.test_labels if subject.is_conditional else None
    recon, kl = bounds.elbo_terms(subject, inputs.test, labels=labels, seed=seed)
    recon, kl = recon.cpu(), kl.cpu()
    names = [name for name in names_of("likelihood") if name != "log_likelihood"]  # only PCA has it
    names, elbo_name, bound_name = _names_of_bounds(subject, names)
    numbers = missing(names, NO_POSTERIOR) | {"recon": mean_of(recon)}
    numbers |= missing(OF_INDEX_PRIOR, index_priors.lacking(subject) or NO_POSTERIOR)
    if not kl.shape[1]:
        return numbers, {"recon_of_images": recon.tolist()}
    elbo, posterior = -recon - kl.sum(1), inputs.first_posterior(subject)
    numbers |= {
        elbo_name: mean_of(elbo),
        "kl": mean_of(kl.sum(1)),
        "bits_per_dim": _bits_per_dim(subject, inputs, elbo),
    }
    if subject.is_conditional:
        numbers |= missing(["elbo", "iw_bound", "bits_per_dim"], GIVEN_LABEL)
    vectors = {f"{elbo_name}_of_images": elbo.tolist()}
    if not index_priors.lacking(subject):
        of_prior, of_images = _with_index_prior(subject, inputs, elbo)
        numbers, vectors = numbers | of_prior, vectors | of_images
    if posterior is None:
        return numbers | missing([bound_name, "iw_ess"], "all draws of a point are equal"), vectors
    if posterior.kl_by(subject.given(inputs.test_labels[0]).prior()) == "dimension":
        vectors["kl_of_dimensions"] = kl.mean(0).tolist()
    if posterior.kl_by(subject.prior()) == "level":
        vectors["kl_of_levels"] = kl.mean(0).tolist()
    images = inputs.test[: _bound_images(subject, inputs)]
    labels = None if labels is None else labels[: len(images)]
    bound, ess = bounds.importance_weighted_bound(subject, images, inputs.settings.k, labels=labels, seed=seed)
    numbers[bound_name] = mean_of(bound.cpu(), k=inputs.settings.k)
    numbers["iw_ess"] = {"value": float(ess.median()), "n": len(ess), "k": inputs.settings.k}
    vectors[f"{bound_name}_of_images"] = bound.tolist()
    return numbers, vectors


def _with_index_prior(subject: Any, inputs: Inputs, elbo: Tensor) -> tuple[Numbers, Vectors]:
    """The rate under the fitted prior, and the ELBO with it, given that with uniform indices (N,)."""
    rate = index_priors.rates(subject, inputs)
    bound, about = index_priors.with_prior(subject, elbo, rate), {"prior": index_priors.describe(subject)}
    numbers = {"prior_rate": mean_of(rate, **about), "elbo_prior": mean_of(bound, **about)}
    return numbers, {"elbo_prior_of_images": bound.tolist()}


def _names_of_bounds(subject: Any, names: list[str]) -> tuple[list[str], str, str]:
    """The names that a subject can have, and those of its ELBO and of its importance-weighted bound."""
    if subject.is_conditional:
        return names, "elbo_given_label", "iw_bound_given_label"
    return [name for name in names if not name.endswith("_given_label")], "elbo", "iw_bound"


def _bits_per_dim(subject: Any, inputs: Inputs, elbo: Tensor) -> Number:
    if not subject.likelihood.discrete:
        return {"value": None, "reason": "the likelihood is a density, for which bits are not defined"}
    if not bool(subject.likelihood.supports(inputs.test).all()):
        return {"value": None, "reason": "the likelihood is not defined on these images; see data.binarize"}
    return mean_of(metrics.bits_per_dim(-elbo, inputs.test[0].numel()))


def _bound_images(subject: Any, inputs: Inputs) -> int:
    """Number of images for the bound: as set, else as many as ``BOUND_FLOPS`` allows, at least 500."""
    from vaezoo.evaluation.cost import flops_per_image

    if inputs.settings.bound_images is not None:
        return inputs.settings.bound_images
    allowed = BOUND_FLOPS / (inputs.settings.k * max(1, flops_per_image(subject) / 2))
    return max(LEAST_BOUND_IMAGES, int(allowed))
