"""Codes of one-hot groups: their posteriors, which training relaxes, and their uniform prior; also beside Gaussians.

A code is flat: the one-hot vectors of all groups side by side, after the Gaussian dimensions if there are any.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.validation import one_of
from vaezoo.distributed import batch_shares
from vaezoo.nn.posteriors.base import Draw, PosteriorModel
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.priors.gaussian import StandardNormal

Rate = Literal["categorical", "relaxed"]


def concrete_log_prob(log_code: Tensor, logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Log density of relaxed one-hot vectors on the simplex, given their logarithms: (..., n) twice -> (...).

    The Concrete or Gumbel-softmax distribution (Maddison et al., 2017, equation 10).
    """
    size, tau = logits.shape[-1], torch.as_tensor(temperature, dtype=logits.dtype, device=logits.device)
    scores = logits - tau * log_code
    constant = math.lgamma(size) + (size - 1) * torch.log(tau)
    return constant + (scores - log_code).sum(-1) - size * scores.logsumexp(-1)


def kl_to_uniform(log_probs: Tensor) -> Tensor:
    """KL divergence of categories from the uniform distribution, in nats: (..., n) -> (...)."""
    return (log_probs.exp() * (log_probs + math.log(log_probs.shape[-1]))).sum(-1)


def nearest_one_hot(values: Tensor) -> Tensor:
    """The one-hot vectors of the largest values: (..., n) -> (..., n)."""
    return F.one_hot(values.argmax(-1), values.shape[-1]).to(values.dtype)


class Relaxation(NamedTuple):
    """How training relaxes draws. ``rate``: the KL of the categories, or that of the relaxed distributions."""

    temperature: Tensor
    straight_through: bool = False
    rate: Rate = "categorical"


class CategoricalDraw(Draw):
    """Codes drawn from categories. If they are relaxed, ``log_code`` (K, B, G, n) are their logarithms."""

    def __init__(self, code: Tensor, log_prob: Callable[[], Tensor], log_code: Tensor | None = None) -> None:
        super().__init__(code.flatten(2), log_prob)
        self.log_code = log_code


class Categories:
    """q(z|x) of G groups of n categories each, for each image of a batch: ``logits`` (B, G, n).

    With a ``relaxation``, as in training, draws are relaxed and differentiable, and ``log_prob`` of a draw is that of
    relaxed codes. Without, they are one-hot.
    """

    def __init__(self, logits: Tensor, relaxation: Relaxation | None = None) -> None:
        self.log_probs, self.relaxation = logits.log_softmax(-1), relaxation

    @property
    def mean(self) -> Tensor:
        """The most probable code, which is not E[z|x]: (B, G n)."""
        return nearest_one_hot(self.log_probs).flatten(1)

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> CategoricalDraw:
        """Codes by the Gumbel trick, one set after another: (K, B, G n) and (K, B)."""
        tiny = torch.finfo(self.log_probs.dtype).tiny
        noise = [batch_shares.exponential_like(self.log_probs, generator) for _ in range(samples)]
        scores = self.log_probs - torch.stack(noise).clamp(min=tiny).log()
        if self.relaxation is None:
            hard = nearest_one_hot(scores)
            return CategoricalDraw(hard, lambda: (hard * self.log_probs).sum((-2, -1)))
        log_code = (scores / self.relaxation.temperature).log_softmax(-1)
        code = log_code.exp()
        if self.relaxation.straight_through:
            code = nearest_one_hot(scores) + (code - code.detach())
        return CategoricalDraw(code, lambda: self._relaxed_log_prob(log_code, self.log_probs).sum(-1), log_code)

    def _relaxed_log_prob(self, log_code: Tensor, logits: Tensor) -> Tensor:
        assert self.relaxation is not None
        return concrete_log_prob(log_code, logits, self.relaxation.temperature)

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence of each group from the uniform prior, in nats: (B, G).

        It is exact for the categories. For relaxed codes it is estimated from the draw, and can be negative.
        """
        log_code = draw.log_code if isinstance(draw, CategoricalDraw) else None
        if self.relaxation is None or self.relaxation.rate == "categorical" or log_code is None:
            return kl_to_uniform(self.log_probs)
        uniform = self._relaxed_log_prob(log_code, torch.zeros_like(self.log_probs))
        return (self._relaxed_log_prob(log_code, self.log_probs) - uniform).mean(0)

    def kl_by(self, prior: Prior) -> str:
        """``group``."""
        return "group"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log probability of one-hot codes (K, B, G n), in nats: (K, B)."""
        return (code.unflatten(-1, self.log_probs.shape[1:]) * self.log_probs).sum((-2, -1))

    def detached(self) -> "Categories":
        """The same distribution without gradients for its parameters."""
        return Categories(self.log_probs.detach(), self.relaxation)

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None


class UniformCategories(NamedTuple):
    """All categories of each group with equal probabilities; ``sizes`` are the groups' numbers of categories."""

    sizes: tuple[int, ...]
    device: torch.device

    def log_prob(self, code: Tensor) -> Tensor:
        """Log probability of one-hot codes, in nats: (..., D) -> (...)."""
        return code.new_full(code.shape[:-1], -sum(math.log(size) for size in self.sizes))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        where = self.device if generator is None else generator.device
        drawn = [torch.rand(count, size, generator=generator, device=where) for size in self.sizes]
        return torch.cat([nearest_one_hot(part) for part in drawn], 1).to(self.device)

    @property
    def factorises(self) -> bool:
        """False: the dimensions of a group depend on each other."""
        return False

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None

    def to(self, device: torch.device) -> "UniformCategories":
        """The same distribution on another device."""
        return self._replace(device=device)


class MixedDraw(Draw):
    """Draws of several independent parts of a code, side by side."""

    def __init__(self, parts: Sequence[Draw]) -> None:
        super().__init__(
            torch.cat([part.code for part in parts], -1), lambda: torch.stack([p.log_prob for p in parts]).sum(0)
        )
        self.parts = parts


class MixedPosterior:
    """q(z|x) of Gaussian dimensions beside independent groups of categories."""

    def __init__(self, gaussian: DiagonalGaussian, groups: Sequence[Categories]) -> None:
        self.gaussian, self.groups = gaussian, groups

    @property
    def mean(self) -> Tensor:
        """The means of the Gaussians beside the most probable categories: (B, D)."""
        return torch.cat([self.gaussian.mean, *(group.mean for group in self.groups)], 1)

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> MixedDraw:
        """Codes and their log density: (K, B, D) and (K, B)."""
        parts: list[DiagonalGaussian | Categories] = [self.gaussian, *self.groups]
        # draw after draw, so that the first do not depend on how many there are
        drawn = [[part.draw(1, generator) for part in parts] for _ in range(samples)]
        return MixedDraw([_stacked(draws) for draws in zip(*drawn, strict=True)])

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence of the Gaussians and of the categories, in nats: (B, 2)."""
        parts = draw.parts if isinstance(draw, MixedDraw) else [draw] * (1 + len(self.groups))
        normal = StandardNormal(self.gaussian.mean.shape[1], self.gaussian.mean.device)
        groups = [group.kl(prior, part).sum(1) for group, part in zip(self.groups, parts[1:], strict=True)]
        return torch.stack([self.gaussian.kl(normal, parts[0]).sum(1), torch.stack(groups).sum(0)], 1)

    def kl_by(self, prior: Prior) -> str:
        """``level``: first the Gaussians, then the categories."""
        return "level"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of codes (K, B, D) with one-hot categories, in nats: (K, B)."""
        parts: list[DiagonalGaussian | Categories] = [self.gaussian, *self.groups]
        split = code.split([part.mean.shape[1] for part in parts], -1)
        return torch.stack([part.log_prob(of) for part, of in zip(parts, split, strict=True)]).sum(0)

    def detached(self) -> "MixedPosterior":
        """The same distribution without gradients for its parameters."""
        return MixedPosterior(self.gaussian.detached(), [group.detached() for group in self.groups])

    def moments(self) -> None:
        """None: the categories are not Gaussian."""
        return None


def _stacked(draws: Sequence[Draw]) -> Draw:
    """Several draws of one part as a single one."""
    code = torch.cat([draw.code for draw in draws])
    log_codes = [draw.log_code for draw in draws if isinstance(draw, CategoricalDraw) and draw.log_code is not None]
    found = Draw(code, lambda: torch.cat([draw.log_prob for draw in draws]))
    if not log_codes:
        return found
    return CategoricalDraw(code[:, :, None], lambda: found.log_prob, torch.cat(log_codes))


class MixedPrior(NamedTuple):
    """N(0, I) of the first dimensions, and uniform categories of the others."""

    normal: StandardNormal
    categories: UniformCategories

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        size = self.normal.dimensions
        return self.normal.log_prob(code[..., :size]) + self.categories.log_prob(code[..., size:])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return torch.cat([self.normal.sample(count, generator), self.categories.sample(count, generator)], 1)

    @property
    def factorises(self) -> bool:
        """False: the dimensions of a group depend on each other."""
        return False

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None

    def to(self, device: torch.device) -> "MixedPrior":
        """The same distribution on another device."""
        return MixedPrior(self.normal.to(device), self.categories.to(device))


class RelaxedCategories(PosteriorModel):
    """Posteriors of groups of ``sizes`` categories, after ``dimensions`` Gaussian ones. Training relaxes draws.

    The temperature is a buffer, which the model sets for each step. ConfigError for an unknown rate.
    """

    temperature: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        dimensions: int = 0,
        *,
        temperature: float = 1.0,
        straight_through: bool = False,
        rate: Rate = "categorical",
    ) -> None:
        super().__init__()
        one_of(rate, get_args(Rate), "model.rate")
        self.sizes, self.dimensions = tuple(sizes), dimensions
        self.straight_through, self.rate = straight_through, rate
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    def features(self, latent_dim: int) -> int:
        return 2 * self.dimensions + sum(self.sizes)

    def forward(self, features: Tensor) -> Categories | MixedPosterior:
        relaxation = Relaxation(self.temperature, self.straight_through, self.rate) if self.training else None
        mean, logvar, logits = features.split([self.dimensions, self.dimensions, sum(self.sizes)], 1)
        if not self.dimensions and len(set(self.sizes)) == 1:
            return Categories(logits.unflatten(1, (len(self.sizes), -1)), relaxation)
        groups = [Categories(group[:, None], relaxation) for group in logits.split(self.sizes, 1)]
        return MixedPosterior(DiagonalGaussian(mean, logvar), groups)

    def prior(self, device: torch.device) -> UniformCategories | MixedPrior:
        """N(0, I) and uniform categories."""
        uniform = UniformCategories(self.sizes, device)
        return MixedPrior(StandardNormal(self.dimensions, device), uniform) if self.dimensions else uniform

    def parts(self) -> list[slice]:
        """Where each group of categories stands in a code."""
        ends = list(accumulate(self.sizes, initial=self.dimensions))
        return [slice(start, stop) for start, stop in pairwise(ends)]

    def project(self, code: Tensor) -> Tensor:
        parts = code.split([self.dimensions, *self.sizes], -1)
        return torch.cat([parts[0], *(nearest_one_hot(part) for part in parts[1:])], -1)

    def probabilities(self, features: Tensor) -> Tensor:
        """Gaussian means beside the probabilities of all categories: (B, F) -> (B, D)."""
        mean, _, logits = features.split([self.dimensions, self.dimensions, sum(self.sizes)], 1)
        return torch.cat([mean, *(group.softmax(1) for group in logits.split(self.sizes, 1))], 1)
