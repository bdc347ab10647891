"""What codes are like: dimensions in use, their distribution over images, and usage of codebooks."""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.evaluation.inputs import Inputs
from vaezoo.evaluation.per_image import NO_POSTERIOR
from vaezoo.evaluation.sections.labels import probed
from vaezoo.evaluation.sections.numbers import Numbers, Vectors, missing
from vaezoo.metrics import codebooks, latent

MOST_MOMENTS = 4096
"""Maximum dimensions of codes whose covariance is taken."""


def latent_space(subject: Any, inputs: Inputs, train_codes: Tensor, test_codes: Tensor) -> tuple[Numbers, Vectors]:
    """Active units, the decomposition of the average KL, in nats, usage of codebooks, and the accuracy of probes."""
    numbers, vectors = _posterior_statistics(subject, inputs, test_codes)
    vectors |= _by_depth(subject, inputs) | _spread_of_channels(subject, test_codes)
    numbers |= _moments_kl(subject, inputs, test_codes)
    return numbers | _codebooks(subject, inputs) | probed(inputs, train_codes, test_codes), vectors


def _posterior_statistics(subject: Any, inputs: Inputs, codes: Tensor) -> tuple[Numbers, Vectors]:
    names = ["mutual_information", "total_correlation", "dimensionwise_kl", "aggregate_kl"]
    example = inputs.first_posterior(subject)
    if example is None:
        return missing(["active_units", *names], NO_POSTERIOR), {}
    variance = codes.double().var(0, correction=0)
    numbers: Numbers = {"active_units": {"value": int(metrics.active_units(variance)), "n": len(codes)}}
    vectors = {"variance_of_means": variance.tolist()}
    if not hasattr(example, "log_prob"):
        return numbers | missing(names, "the posterior has no density of given codes"), vectors
    if not isinstance(example, tuple):
        return numbers | missing(names, "scoring a code under the posterior of another image takes networks"), vectors
    posterior, prior = _posterior_of(subject, inputs), subject.prior().to(torch.device("cpu"))
    parts = latent.decompose(posterior, prior, generator=inputs.generator())
    reasons = {
        "total_correlation": "the dimensions of the posterior are not independent",
        "dimensionwise_kl": "the dimensions of the posterior or of the prior are not independent",
    }
    for name in names:
        if getattr(parts, name) is None:
            numbers |= missing([name], reasons[name])
            continue
        sizes = {"se": parts.standard_errors[name], "n": parts.n, "samples": parts.samples}
        numbers[name] = {"value": getattr(parts, name), **sizes}
        if parts.saturated:
            numbers[name]["note"] = f"mutual information is at its limit of log n = {math.log(parts.n):.2f} nats"
    return numbers, vectors


def _moments_kl(subject: Any, inputs: Inputs, codes: Tensor) -> Numbers:
    """How far the Gaussian with the codes' moments is from N(0, I)."""
    name, example = "moments_kl", inputs.first_posterior(subject)
    if subject.index_shape is not None or subject.is_spherical:
        return missing([name], "the codes are not a Gaussian's: they are discrete, or on a sphere")
    if example is not None and example.moments() is None:
        return missing([name], "the dimensions of the posterior are not independent Gaussians")
    if codes.shape[1] > MOST_MOMENTS:
        return missing([name], f"codes have more than {MOST_MOMENTS:,} dimensions")
    variance = None
    if example is not None:
        variance = inputs.map_given(subject, lambda seen, x: seen.posterior(x).moments()[1].exp())
    found = latent.moments_kl(codes, variance)
    if found is None:
        return missing([name], f"the covariance of {len(codes):,} codes of {codes.shape[1]:,} dimensions is singular")
    return {name: {"value": found, "n": len(codes)}}


@torch.no_grad()
def _posterior_of(subject: Any, inputs: Inputs) -> Any:
    """The posteriors of all test images on the CPU, a named tuple of tensors (N, ...)."""
    found = [seen.posterior(x) for seen, x in inputs.chunks(subject)]
    return type(found[0])(*(torch.cat([part.cpu() for part in parts]) for parts in zip(*found, strict=True)))


def _codebooks(subject: Any, inputs: Inputs) -> Numbers:
    """Perplexity and share of used codes, over the whole test set; with several codebooks, their means."""
    names = ["perplexity", "codes_used"]
    if subject.index_shape is None:
        return missing(names, "the codes are not discrete")
    layout, indices = subject.index_layout, inputs.map(subject.indices, inputs.test)
    counts = layout.counts(indices).values()
    positions = [book.positions for book in layout.codebooks]
    scores = {"perplexity": codebooks.perplexity, "codes_used": codebooks.codes_used}
    sizes = {"n": len(indices), "positions": positions, "codes": list(layout.sizes)}
    return {
        name: {"value": sum(float(score(level)) for level in counts) / len(counts), **sizes}
        for name, score in scores.items()
    }


@torch.no_grad()
def _by_depth(subject: Any, inputs: Inputs) -> Vectors:
    """Rate and recon, in nats, and PSNR of the codes of the first level alone, of the first two, ...: (L,) each.

    Nothing for codes whose levels do not refine each other.
    """
    if subject.index_shape is None or subject.partial_codes(subject.indices(inputs.test[:1].to(inputs.device))) is None:
        return {}

    def distortions(x: Tensor) -> Tensor:
        codes = subject.partial_codes(subject.indices(x))
        each = [(subject.nll(x, code), metrics.psnr(metrics.mse(x, subject.decode(code)))) for code in codes]
        return torch.stack([torch.stack(pair) for pair in each]).movedim(-1, 0)

    recon, psnr = inputs.map(distortions, inputs.test).double().mean(0).T.tolist()
    rates = list(accumulate(subject.index_layout.rates()))
    return {"rate_at_depth": rates, "recon_at_depth": recon, "psnr_at_depth": psnr}


def _spread_of_channels(subject: Any, codes: Tensor) -> Vectors:
    """Standard deviation of each channel of continuous spatial codes (N, D), over images and positions: (C,).

    A model of the codes is trained on codes divided by it; latent diffusion models call its inverse ``scaling_factor``.
    Nothing for other codes.
    """
    if subject.index_shape is not None or len(subject.code_shape) == 1:
        return {}
    channels = codes.double().unflatten(1, subject.code_shape).movedim(1, 0).flatten(1)
    return {"code_std": channels.std(1, correction=0).tolist()}
