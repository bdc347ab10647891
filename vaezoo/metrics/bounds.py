"""Monte Carlo bounds on log p(x) of each image.

The two functions with a ``seed`` process images in blocks of ``NOISE_BLOCK``, each with its own generator, and draw one
code after another, so that ``budget`` affects memory and speed but results only by rounding. They leave the global
random state unchanged. Images may be on another device than the model.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOISE_BLOCK = 128
"""Images that share one generator; another number gives other draws."""

BUDGET = 2**20
"""Maximum number of decoded elements (pixels x channels x codes) at once."""


@torch.no_grad()
def importance_weighted_bound(
    model: Any, x: Tensor, k: int, *, labels: Tensor | None = None, seed: int = 0, start: int = 0, budget: int = BUDGET
) -> tuple[Tensor, Tensor]:
    """The importance-weighted bound E[log 1/k sum w] <= log p(x) (Burda et al., 2016), from ``k`` draws per image.

    Here w = p(x, z) / q(z|x), z ~ q(z|x). The effective sample size (sum w)^2 / sum w^2 is between 1 and ``k``; where
    it is small, the bound is loose and its error is underestimated.

    Args:
        model: in evaluation mode, with ``posterior``, ``prior`` and ``log_likelihood``.
        x: images (B, C, H, W).
        k: draws per image; for k = 1 the bound is the ELBO in expectation.
        labels: of each image, (B,), for a conditional model, whose bound is on log p(x|y).
        start: position of the first image in a larger set, a multiple of ``NOISE_BLOCK``, so that parts of the set have
            the draws of the whole.
        budget: maximum number of elements decoded at once, but at least one image.

    Returns:
        The bound in nats and the effective sample size, both (B,), float64, on the model's device.

    Raises:
        ValueError: the model has no posterior or prior or is in training mode, or there are no images or draws.
    """
    _check(model, x, k, "k")
    blocks = [_bound_of_block(model, *block, k, budget) for block in _blocks(x, labels, seed, start)]
    bound, ess = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return bound, ess


@torch.no_grad()
def elbo_terms(
    model: Any,
    x: Tensor,
    *,
    labels: Tensor | None = None,
    seed: int = 0,
    start: int = 0,
    draws: int = 1,
    budget: int = BUDGET,
) -> tuple[Tensor, Tensor]:
    """The terms of the negative ELBO, in nats: (B, C, H, W) -> recon (B,) and kl (B, G), float64.

    ``recon`` is -log p(x|z) averaged over ``draws`` of z ~ q(z|x); ``kl`` is exact where there is a closed form, and
    else estimated from the same draws. Without a posterior, ``recon`` is that of the model's code, and ``kl`` its
    rate, (B, 1); G = 0 if it has none, and then ``recon`` is a distortion but not part of a bound.
    ``labels``, ``start`` and ValueError as above.
    """
    _check(model, x, draws, "draws")
    blocks = [_terms_of_block(model, *block, draws, budget) for block in _blocks(x, labels, seed, start)]
    recon, kl = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return recon, kl


def _bound_of_block(
    model: Any, x: Tensor, labels: Tensor | None, seed: int, k: int, budget: int
) -> tuple[Tensor, Tensor]:
    x = x.to(model.device)
    posterior, prior = _distributions(_given(model, labels), x)
    generator = torch.Generator(x.device).manual_seed(seed)
    at_once = max(1, budget // x.numel())
    log_sum = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    log_sum_of_squares = log_sum.clone()
    for start in range(0, k, at_once):
        draw = posterior.draw(min(at_once, k - start), generator)
        log_prior, log_likelihood = prior.log_prob(draw.code), _log_likelihood(model, x, labels, draw.code, budget)
        log_weights = log_likelihood + log_prior.double() - draw.log_prob.double()
        log_sum = torch.logaddexp(log_sum, log_weights.logsumexp(0))
        log_sum_of_squares = torch.logaddexp(log_sum_of_squares, (2 * log_weights).logsumexp(0))
    return log_sum - math.log(k), torch.exp(2 * log_sum - log_sum_of_squares)


def _terms_of_block(
    model: Any, x: Tensor, labels: Tensor | None, seed: int, draws: int, budget: int
) -> tuple[Tensor, Tensor]:
    x, seen = x.to(model.device), _given(model, labels)
    posterior = seen.posterior(x)
    if posterior is None:
        log_likelihood, rate = _log_likelihood(model, x, labels, seen.encode(x)[None], budget), seen.rate(x)
        return -log_likelihood[0], log_likelihood.new_zeros(len(x), 0) if rate is None else rate.double()[:, None]
    draw = posterior.draw(draws, torch.Generator(x.device).manual_seed(seed))
    return -_log_likelihood(model, x, labels, draw.code, budget).mean(0), posterior.kl(seen.prior(), draw).double()


def _given(model: Any, labels: Tensor | None) -> Any:
    """The model given labels, if there are any."""
    return model if labels is None else model.given(labels.to(model.device))


def _log_likelihood(model: Any, x: Tensor, labels: Tensor | None, codes: Tensor, budget: int) -> Tensor:
    """log p(x|z) of images (B, C, H, W) given S codes each, (S, B, D), in bounded memory: (S, B), float64."""
    of_code = torch.arange(codes[..., 0].numel(), device=x.device) % len(x)
    at_once = max(1, budget // x[0].numel())
    chunks = zip(of_code.split(at_once), codes.flatten(0, 1).split(at_once), strict=True)
    places = [(of, None if labels is None else labels[of.to(labels.device)], code) for of, code in chunks]
    parts = [_given(model, label).log_likelihood(x[of], code).double() for of, label, code in places]
    return torch.cat(parts).view(codes.shape[:2])


def _distributions(model: Any, x: Tensor) -> tuple[Any, Any]:
    """Posterior of images, and prior; ValueError if the model lacks one of them."""
    found = {"posterior": model.posterior(x), "prior": model.prior()}
    for name, one in found.items():
        if one is None:
            raise ValueError(f"an importance-weighted bound needs a {name}, and this model's {name} returns None")
    return found["posterior"], found["prior"]


def _blocks(x: Tensor, labels: Tensor | None, seed: int, start: int) -> Iterator[tuple[Tensor, Tensor | None, int]]:
    """Blocks of images and labels, each with its own 32-bit seed: a CPU generator ignores further bits."""
    for number, images in enumerate(x.split(NOISE_BLOCK)):
        of_block = None if labels is None else labels[number * NOISE_BLOCK :][: len(images)]
        of_all = number + start // NOISE_BLOCK
        yield images, of_block, int(np.random.SeedSequence((seed, of_all)).generate_state(1)[0])


def _check(model: Any, x: Tensor, count: int, name: str) -> None:
    if model.training:
        raise ValueError("the model is in training mode, where dropout and batch statistics change it: call eval()")
    if len(x) == 0 or count < 1:
        raise ValueError(f"needs at least one image and {name} of at least 1, got {len(x)} and {count}")
