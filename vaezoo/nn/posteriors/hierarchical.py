"""Hierarchies of Gaussian levels: their posteriors and their learned prior.

A code is flat, with its levels side by side, top first. The prior draws each level given all above it:
p(z_1) p(z_2|z_1) p(z_3|z_1, z_2) ..., with p(z_1) = N(0, I). Level 1 is the top.
"""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.validation import one_of, within
from vaezoo.distributed import batch_shares
from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.nn.networks import LARGEST, dense
from vaezoo.nn.posteriors.base import Draw, PosteriorModel
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.base import Prior

LEAST_LOGVAR, MOST_LOGVAR = -10.0, 4.0
"""Soft limits of log variances that are given by codes, of priors of levels above all."""


Inference = Literal["residual", "ladder", "bottom_up"]


Pick = Callable[[int, DiagonalGaussian], Tensor]
"""The code (K, B, d) of a level, counted from 0, whose distribution is (K, B, d)."""


def soft_clamp(values: Tensor, least: float = LEAST_LOGVAR, most: float = MOST_LOGVAR) -> Tensor:
    """Values between two limits, with a gradient everywhere; nearly the identity well between them."""
    return least + F.softplus(most - F.softplus(most - values) - least)


def kl_between(q: DiagonalGaussian, p: DiagonalGaussian) -> Tensor:
    """KL(q || p) of Gaussians in each dimension, in nats: (..., D). It is exactly 0 where they are equal."""
    return gaussian_kl((q.mean - p.mean) * torch.exp(-0.5 * p.logvar), q.logvar - p.logvar)


def residual(p: DiagonalGaussian, shift: Tensor, log_factor: Tensor) -> DiagonalGaussian:
    """A posterior relative to its prior, as in NVAE (Vahdat and Kautz, 2020): (..., D) each.

    ``shift`` is added to the mean, and the variance is multiplied by exp(``log_factor``).
    """
    return DiagonalGaussian(p.mean + shift, p.logvar + log_factor)


def precision_weighted(upward: DiagonalGaussian, p: DiagonalGaussian) -> DiagonalGaussian:
    """The normalised product of the densities of two Gaussians (Sønderby et al., 2016, equations 17 to 19)."""
    share = torch.sigmoid(p.logvar - upward.logvar)  # of the precision
    logvar = -torch.logaddexp(-upward.logvar, -p.logvar)
    return DiagonalGaussian(share * upward.mean + (1 - share) * p.mean, logvar)


class Levels(NamedTuple):
    """Codes (K, B, d) of each level, and the distributions that they were drawn from or are scored by, top first.

    ``posteriors`` are empty without images. ``exact`` says of each level whether its two distributions are given the
    same codes, so that their KL divergence is exact.
    """

    codes: list[Tensor]
    posteriors: list[DiagonalGaussian]
    priors: list[DiagonalGaussian]
    exact: Sequence[bool]

    def log_prob(self, distributions: Sequence[DiagonalGaussian]) -> Tensor:
        """Log density of the codes under one distribution for each level, in nats: (K, B)."""
        parts = [one.log_prob(code) for one, code in zip(distributions, self.codes, strict=True)]
        return torch.stack(parts).sum(0)

    def kl(self) -> Tensor:
        """KL divergence of each level given the levels that were drawn before it, in nats: (B, L)."""
        return torch.stack([self._kl_of(level) for level in range(len(self.codes))], 1)

    def _kl_of(self, level: int) -> Tensor:
        code, q, p = self.codes[level], self.posteriors[level], self.priors[level]
        found = kl_between(q, p).sum(-1) if self.exact[level] else q.log_prob(code) - p.log_prob(code)
        return found.expand(code.shape[:-1]).mean(0)


class Hierarchy(PosteriorModel):
    """Networks of a hierarchy, with its posteriors and its prior. ``sizes`` are the dimensions of its levels."""

    can_be_detached = False

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    @abstractmethod
    def walk(self, pick: Pick, like: Tensor, features: Tensor | None = None) -> Levels:
        """Visit all levels. ``pick`` chooses their codes (K, B, d), from the posterior of ``features`` (B, F) if they
        are given, else from the prior; ``like`` has the shape, type and device of the whole code, (K, B, D)."""

    def forward(self, features: Tensor) -> "HierarchicalPosterior":
        return HierarchicalPosterior(self, features)

    def prior(self, device: torch.device) -> "HierarchicalPrior":
        """p(z) of all levels together."""
        return HierarchicalPrior(self, device)

    def split(self, code: Tensor) -> tuple[Tensor, ...]:
        """The levels of codes: (..., D) -> (..., d) for each."""
        return code.split(self.sizes, -1)

    def drawn(self, noise: Tensor, features: Tensor | None = None) -> Levels:
        """Levels drawn with standard normal noise (K, B, D); with zeros, each level's mean given the others'."""
        parts = self.split(noise)
        return self.walk(lambda level, of: of.mean + torch.exp(0.5 * of.logvar) * parts[level], noise, features)

    def scored(self, code: Tensor, features: Tensor | None = None) -> Levels:
        """The distributions of given codes (K, B, D)."""
        parts = self.split(code)
        return self.walk(lambda level, _: parts[level], code, features)


class HierarchicalDraw(Draw):
    """Codes drawn from a hierarchy, with the distributions of its levels."""

    def __init__(self, levels: Levels) -> None:
        super().__init__(torch.cat(levels.codes, -1), lambda: levels.log_prob(levels.posteriors))
        self.levels = levels


class HierarchicalPosterior:
    """q(z|x) of all levels of each image of a batch. ``features`` are (B, F)."""

    def __init__(self, networks: Hierarchy, features: Tensor) -> None:
        self.networks, self.features = networks, features
        self._mean: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The mean of each level given the means of those before it, which is not E[z|x]: (B, D)."""
        if self._mean is None:  # torch.compile breaks the graph at a cached_property
            self._mean = torch.cat(self.networks.drawn(self._zeros()[None], self.features).codes, -1)[0]
        return self._mean

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> HierarchicalDraw:
        """Codes by the reparametrisation trick, level by level: (K, B, D) and (K, B)."""
        noise = torch.stack([batch_shares.normal_like(self._zeros(), generator) for _ in range(samples)])
        return HierarchicalDraw(self.networks.drawn(noise, self.features))

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence of each level from the hierarchy's own prior, in nats: (B, L).

        It is exact given the levels drawn before it. Where levels are drawn from the bottom up, that holds for the top
        only, and the others are estimated from the draw: they can be negative for a single image.
        """
        if isinstance(draw, HierarchicalDraw):
            return draw.levels.kl()
        return self.networks.scored(draw.code, self.features).kl()

    def kl_by(self, prior: Prior) -> str:
        """``level``."""
        return "level"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of codes (K, B, D), in nats: (K, B)."""
        levels = self.networks.scored(code, self.features)
        return levels.log_prob(levels.posteriors)

    def detached(self) -> "HierarchicalPosterior":
        """Not possible, because later levels depend on earlier ones by the parameters themselves."""
        raise NotImplementedError("the posterior of a hierarchy has no copy without gradients")

    def moments(self) -> None:
        """None: levels depend on each other."""
        return None

    def _zeros(self) -> Tensor:
        return self.features.new_zeros(self.features.shape[0], sum(self.networks.sizes))


class HierarchicalPrior(NamedTuple):
    """p(z) of all levels of a hierarchy."""

    networks: Hierarchy
    device: torch.device

    @property
    def sizes(self) -> tuple[int, ...]:
        """Dimensions of the levels, top first."""
        return self.networks.sizes

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        levels = self.networks.scored(code.reshape(1, -1, code.shape[-1]))
        return levels.log_prob(levels.priors).reshape(code.shape[:-1])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the top down, (count, D)."""
        where = self.device if generator is None else generator.device
        return self.codes(torch.randn(count, sum(self.networks.sizes), generator=generator, device=where))

    def codes(self, noise: Tensor) -> Tensor:
        """The codes that standard normal noise draws: (B, D) -> (B, D)."""
        levels = self.networks.drawn(noise.to(self.device)[None])
        return torch.cat(levels.codes, -1)[0]

    @property
    def factorises(self) -> bool:
        """False: levels depend on those above."""
        return False

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None

    def to(self, device: torch.device) -> "HierarchicalPrior":
        """The same distribution on another device."""
        return HierarchicalPrior(copy.deepcopy(self.networks).to(device), device)


class Conditional(nn.Module):
    """Mean and log variance of a level, each (..., outputs), from vectors that are given side by side.

    Linear layers with activations between them. ``starts_at_zero``: an untrained one returns zeros.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        activation: type[nn.Module],
        *,
        starts_at_zero: bool = False,
    ) -> None:
        super().__init__()
        sizes = (inputs, *widths)
        hidden = dense(*sizes, activation=activation)
        last = nn.Linear(sizes[-1], 2 * outputs)
        if starts_at_zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*hidden, last)

    def forward(self, given: Tensor) -> DiagonalGaussian:
        weights = next(self.layers.parameters())
        mean, logvar = self.layers(given.to(weights.dtype)).to(given.dtype).chunk(2, -1)
        return DiagonalGaussian(mean, logvar)


class VectorLevels(Hierarchy):
    """A hierarchy of vectors, with small fully connected networks between its levels.

    Args:
        sizes: dimensions of the levels, top first.
        inference: how posteriors are made. ``residual``: from the top down, relative to the prior of each level, as in
            NVAE; ``ladder``: from the top down, as the product of the prior and of a Gaussian that the encoder gives,
            as in the LVAE; ``bottom_up``: each level given the one below, as in the two-layer IWAE.
        widths: hidden layers of the networks between levels; without any, they are linear. activation: what follows
            each of them.

    Raises:
        ConfigError: an unknown inference, or a width below 1.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        inference: Inference = "residual",
        widths: Sequence[int] = (128,),
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(sizes)
        for width in widths:
            within(width, 1, LARGEST, "each of model.level_widths")
        one_of(inference, get_args(Inference), "model.inference")
        self.inference = inference
        above = [sum(sizes[:level]) for level in range(len(sizes))]
        self.priors = nn.ModuleList(Conditional(above[i], sizes[i], widths, activation) for i in range(1, len(sizes)))
        if inference == "residual":
            parts = [(above[i] + 2 * sizes[i], sizes[i]) for i in range(1, len(sizes))]
        else:
            parts = [] if inference == "ladder" else [(sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)]
        zero = inference == "residual"
        self.posteriors = nn.ModuleList(Conditional(*part, widths, activation, starts_at_zero=zero) for part in parts)

    def features(self, latent_dim: int) -> int:
        return 2 * (self.sizes[-1] if self.inference == "bottom_up" else sum(self.sizes))

    def walk(self, pick: Pick, like: Tensor, features: Tensor | None = None) -> Levels:
        if features is not None and self.inference == "bottom_up":
            return self._upward(pick, features)
        upward = () if features is None else features.split([2 * size for size in self.sizes], -1)
        codes: list[Tensor] = []
        posteriors: list[DiagonalGaussian] = []
        priors: list[DiagonalGaussian] = []
        for level in range(len(self.sizes)):
            priors.append(p := self._prior(level, codes, like))
            if features is not None:
                posteriors.append(self._posterior(level, codes, upward[level], p))
            codes.append(pick(level, posteriors[-1] if posteriors else p))
        return Levels(codes, posteriors, priors, [True] * len(codes))

    def _prior(self, level: int, above: Sequence[Tensor], like: Tensor) -> DiagonalGaussian:
        if level == 0:
            zeros = like.new_zeros(*like.shape[:-1], self.sizes[0])
            return DiagonalGaussian(zeros, zeros)
        mean, logvar = self.priors[level - 1](torch.cat(list(above), -1))
        return DiagonalGaussian(mean, soft_clamp(logvar))

    def _posterior(self, level: int, above: Sequence[Tensor], upward: Tensor, p: DiagonalGaussian) -> DiagonalGaussian:
        """q of a level given the codes above (K, B, d) and the encoder's outputs for it, (B, 2 d)."""
        if level > 0 and self.inference == "residual":
            own = upward.expand(*above[0].shape[:-1], -1)
            return residual(p, *self.posteriors[level - 1](torch.cat([*above, own], -1)))
        q = DiagonalGaussian(*upward.chunk(2, -1))
        return q if level == 0 else precision_weighted(q, p)

    def _upward(self, pick: Pick, features: Tensor) -> Levels:
        """Posteriors from the bottom up: q(z_L|x), then each level given the one below."""
        last = len(self.sizes) - 1
        posteriors = [DiagonalGaussian(*features.chunk(2, -1))]
        codes = [pick(last, posteriors[0])]
        for level in range(last - 1, -1, -1):
            mean, logvar = self.posteriors[level](codes[0])
            posteriors.insert(0, DiagonalGaussian(mean, soft_clamp(logvar)))
            codes.insert(0, pick(level, posteriors[0]))
        priors = [self._prior(level, codes[:level], codes[-1]) for level in range(len(self.sizes))]
        return Levels(codes, posteriors, priors, [level == 0 for level in range(len(codes))])
