"""Statistics of a set of codes: decomposition of the averaged KL, and effective number of dimensions."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaezoo.metrics.divergences import gaussian_log_prob

SAMPLES = 2000
"""Draws from the aggregate posterior."""

POSTERIORS = 10_000
"""Maximum number of posteriors in the aggregate posterior; the cost is draws x posteriors x dimensions."""

CHUNK = 2**17
"""Densities computed at once, few enough for a CPU's cache."""


@dataclass(frozen=True)
class Decomposition:
    """The averaged KL(q(z|x) || p(z)) and its three parts, in nats; see ``decompose``.

    ``kl`` = ``mutual_information`` + ``total_correlation`` + ``dimensionwise_kl`` up to the sampling error, and
    ``aggregate_kl`` is exactly the sum of the last two. ``standard_errors`` are the sampling errors of the parts by
    name; ``kl`` is exact for its ``n`` images if there is a closed form.

    ``total_correlation`` is None unless the dimensions of posteriors are independent, and ``dimensionwise_kl`` is None
    unless those of the prior are independent as well.

    Mutual information cannot exceed log n, so the excess of a larger ``kl`` appears in the other two parts. If
    ``saturated``, these are inflated by the small number of images, and are not estimates for the data distribution.
    """

    kl: float
    mutual_information: float
    total_correlation: float | None
    dimensionwise_kl: float | None
    aggregate_kl: float
    standard_errors: dict[str, float]
    n: int
    samples: int

    @property
    def saturated(self) -> bool:
        """Whether mutual information is within 5% of its maximum for n images, log n."""
        return self.mutual_information > 0.95 * math.log(self.n)


def moments_kl(mean: Tensor, variance: Tensor | None = None) -> float | None:
    """KL(N(m, S) || N(0, I)) in nats, with the moments of the aggregate posterior: how far codes are from N(0, I).

    (tr S + |m|^2 - D - log det S) / 2 in float64. Of all distributions with these moments, the Gaussian has the
    smallest divergence from N(0, I), so it is a lower bound on that of the codes. S is the covariance of codes (N, D),
    or of posterior means plus the mean of the posteriors' ``variance`` (N, D) of independent dimensions. None if S is
    singular, as with no more codes than dimensions.
    """
    mean = mean.double()
    centre, spread = mean.mean(0), torch.cov(mean.T, correction=0).reshape(mean.shape[1], -1)
    if variance is not None:
        spread = spread + torch.diag(variance.double().mean(0))
    sign, log_det = torch.linalg.slogdet(spread)
    if sign <= 0 or not torch.isfinite(log_det) or (variance is None and len(mean) <= mean.shape[1]):
        return None
    return 0.5 * float(spread.trace() + centre.square().sum() - mean.shape[1] - log_det)


@torch.no_grad()
def decompose(
    posterior: Any,
    prior: Any,
    *,
    generator: torch.Generator,
    samples: int = SAMPLES,
    posteriors: int = POSTERIORS,
    chunk: int = CHUNK,
) -> Decomposition:
    """Index-code mutual information, total correlation and dimension-wise KL (Chen et al., 2018, equation 2).

    The aggregate posterior q(z) is the mixture of all N posteriors, and every draw is scored against all N, in the
    joint density and in the marginals. So 0 <= mutual information <= log N and 0 <= total correlation hold up to the
    sampling error, unlike for minibatch estimators. Compare only results of equal ``n``.

    Args:
        posterior: those of N images, a named tuple of tensors (N, ...) with ``mean`` (N, D) and ``log_prob``.
        prior: with ``log_prob``.
        generator: draws codes, and images if there are more than ``posteriors``; on any device.
        samples: draws of q(z), at least 2; each posterior is used equally often, up to one draw.
        posteriors: maximum number of images.
        chunk: densities in memory at once; does not affect the draws.

    Raises:
        ValueError: wrong shapes, no images, or fewer than 2 samples.
    """
    mean = posterior.mean
    fits = all(part.shape[:2] in (mean.shape, mean.shape[:1]) for part in posterior)  # (N, D), (N, D, ...) or (N,)
    if mean.ndim != 2 or len(mean) == 0 or samples < 2 or not fits:
        shapes = ", ".join(str(tuple(part.shape)) for part in posterior)
        raise ValueError(f"needs posteriors with means (N, D) and at least 2 samples, got {shapes} and {samples}")
    kept = _permutation(len(mean), generator)[:posteriors].to(mean.device)
    posterior = type(posterior)(*(part[kept].double() for part in posterior))
    codes, log_conditional = _draw(posterior, samples, generator)
    moments, log_prior = posterior.moments(), prior.log_prob(codes)
    log_joint, log_marginals = (
        (aggregate_density(codes, posterior, chunk=chunk), None)
        if moments is None
        else aggregate_log_density(codes, *moments, chunk=chunk)
    )
    parts = {"mutual_information": log_conditional - log_joint, "aggregate_kl": log_joint - log_prior}
    if log_marginals is not None:
        parts["total_correlation"] = log_joint - log_marginals.sum(1)
    if log_marginals is not None and prior.factorises:
        parts["dimensionwise_kl"] = log_marginals.sum(1) - log_prior
    values: dict[str, Any] = {"total_correlation": None, "dimensionwise_kl": None}
    values |= {name: part.mean().item() for name, part in parts.items()}
    errors = {name: (part.std() / samples**0.5).item() for name, part in parts.items()}
    kl = posterior.kl(prior, posterior.draw(1, generator)).sum(1).mean().item()
    return Decomposition(kl=kl, **values, standard_errors=errors, n=len(posterior.mean), samples=samples)


def _draw(posterior: Any, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws of the mixture (samples, D), and log q(z|x) of each under its own posterior (samples,)."""
    count = len(posterior.mean)
    rounds = [_permutation(count, generator) for _ in range(-(-samples // count))]
    own = torch.cat(rounds)[:samples].to(posterior.mean.device)
    code, log_prob = type(posterior)(*(part[own] for part in posterior)).draw(1, generator)
    return code[0], log_prob[0]


def aggregate_density(codes: Tensor, posterior: Any, *, chunk: int = CHUNK) -> Tensor:
    """log q(z) of codes (S, D) under the mixture of N posteriors of any family, in nats: (S,)."""
    at_once = max(1, chunk // posterior.mean.numel())
    scored = [posterior.log_prob(part[:, None]).logsumexp(1) for part in codes.split(at_once)]
    return torch.cat(scored) - math.log(len(posterior.mean))


def _permutation(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, device=generator.device)


def aggregate_log_density(codes: Tensor, mean: Tensor, logvar: Tensor, *, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """log q(z) and log q(z_k) of codes (S, D) under the mixture of posteriors (N, D), in nats: (S,) and (S, D)."""
    at_once = max(1, chunk // len(mean))
    scored = [_score(part, mean.T.contiguous(), logvar.T.contiguous()) for part in codes.split(at_once)]
    joint, marginals = (torch.cat(parts) for parts in zip(*scored, strict=True))
    return joint - math.log(len(mean)), marginals - math.log(len(mean))


def _score(codes: Tensor, mean: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Log sums of densities over the mixture, joint and per dimension; ``mean`` and ``logvar`` are (D, N) here."""
    joint = codes.new_zeros(len(codes), mean.shape[1])
    marginals = torch.empty_like(codes)
    for dimension in range(len(mean)):
        log_prob = gaussian_log_prob(codes[:, dimension, None], mean[dimension], logvar[dimension])
        joint += log_prob
        marginals[:, dimension] = log_prob.logsumexp(1)
    return joint.logsumexp(1), marginals
