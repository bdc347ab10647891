"""Posteriors that are invertible maps of diagonal Gaussians. The density of given codes is not known."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.validation import at_least, within
from vaezoo.nn.flows import Gated, Made, Planar, Radial, check_hidden, pushed
from vaezoo.nn.posteriors.base import Draw, PosteriorModel, sampled_kl
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.base import Prior

OPTIONS = "model.posterior_options"


MOST_STEPS = 2**10


class Flowed(NamedTuple):
    """The distribution of f(z) with z from ``base``, where f is the ``steps`` one after another.

    Steps are named tuples with a ``push``. ``mean`` is f of the mean of the base, which is not the mean of f(z).
    """

    base: DiagonalGaussian
    steps: tuple[Any, ...]

    @property
    def mean(self) -> Tensor:
        """The image of the base's mean: (B, D)."""
        return pushed(self.steps, self.base.mean)[0]

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """Codes and their density, which follows from that of the base on the way: (K, B, D) and (K, B)."""
        before = self.base.draw(samples, generator)
        code, log_det = pushed(self.steps, before.code)
        return Draw(code, lambda: before.log_prob - log_det)

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence in nats, estimated from the draw: (B, 1)."""
        return sampled_kl(prior, draw)

    def kl_by(self, prior: Prior) -> str:
        """``whole``: the dimensions depend on each other."""
        return "whole"

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Flowed":
        """The distribution whose tensors are ``function`` of these; networks stay."""
        steps = (
            type(step)(*(function(part) if isinstance(part, Tensor) else part for part in step)) for step in self.steps
        )
        return Flowed(DiagonalGaussian(*map(function, self.base)), tuple(steps))


class _Amortised(PosteriorModel):
    """Flows whose every parameter is an encoder output: ``each`` numbers for each of ``steps`` steps."""

    can_be_detached = False

    def __init__(self, latent_dim: int, steps: int, each: int) -> None:
        super().__init__()
        within(steps, 1, MOST_STEPS, f"{OPTIONS}.steps")
        self.latent_dim, self.steps, self.each = latent_dim, steps, each

    def features(self, latent_dim: int) -> int:
        return 2 * latent_dim + self.steps * self.each

    def forward(self, features: Tensor) -> Flowed:
        mean, logvar, rest = features.tensor_split([self.latent_dim, 2 * self.latent_dim], dim=1)
        parts = rest.unflatten(1, (self.steps, self.each)).unbind(1)
        return Flowed(DiagonalGaussian(mean, logvar), tuple(self.step(*pair) for pair in enumerate(parts)))

    def step(self, number: int, features: Tensor) -> Any:
        """The step of this number from its encoder outputs, (B, each)."""
        raise NotImplementedError


class PlanarFlow(_Amortised):
    """``steps`` planar steps of a diagonal Gaussian (Rezende and Mohamed, 2015), all parameters by the encoder.

    Directions w start at random, and u near the value that makes a step the identity: encoder outputs change it by
    ``SMALL`` times as much, so that an untrained posterior is nearly the Gaussian.
    """

    SMALL = 0.1
    start: Tensor

    def __init__(self, *, latent_dim: int, steps: int = 10) -> None:
        super().__init__(latent_dim, steps, 2 * latent_dim + 1)
        self.register_buffer("start", torch.empty(steps, latent_dim).normal_(0, 1) / math.sqrt(latent_dim))

    def step(self, number: int, features: Tensor) -> Planar:
        u, w, b = features.tensor_split([self.latent_dim, 2 * self.latent_dim], dim=1)
        w = self.start[number].to(w.dtype) + w
        identity = math.log(math.e - 1) * w / (w.square().sum(1, keepdim=True) + 1e-6)
        return Planar(identity + self.SMALL * u, w, b[:, 0])


class RadialFlow(_Amortised):
    """``steps`` radial steps of a diagonal Gaussian (Rezende and Mohamed, 2015), all parameters by the encoder.

    Encoder outputs change beta from the value that makes a step the identity, ``SMALL`` times as much, so that an
    untrained posterior is nearly the Gaussian.
    """

    SMALL = 0.1

    def __init__(self, *, latent_dim: int, steps: int = 10) -> None:
        super().__init__(latent_dim, steps, latent_dim + 2)

    def step(self, number: int, features: Tensor) -> Radial:
        z0, alpha_raw, change = features.tensor_split([self.latent_dim, self.latent_dim + 1], dim=1)
        return Radial(z0, alpha_raw[:, 0], (alpha_raw + self.SMALL * change)[:, 0])


class InverseAutoregressive(PosteriorModel):
    """``steps`` inverse autoregressive steps of a diagonal Gaussian (Kingma et al., 2016).

    Each step has a network of one hidden layer with ``hidden`` units, which sees ``context`` numbers that the encoder
    gives for each image, and the order of the dimensions is reversed from step to step. The networks' outputs start as
    constants, and each gate open at sigmoid(``GATE``). The base is wider and farther from 0 by what the gates then
    take away, so that an untrained posterior is the Gaussian of a plain VAE.
    """

    can_be_detached = False
    GATE = 1.5

    def __init__(self, *, latent_dim: int, steps: int = 4, hidden: int = 64, context: int = 32) -> None:
        super().__init__()
        within(steps, 1, MOST_STEPS, f"{OPTIONS}.steps")
        at_least(context, 1, f"{OPTIONS}.context")
        check_hidden(hidden, latent_dim, f"{OPTIONS}.hidden")
        self.latent_dim, self.context = latent_dim, context
        self.networks = nn.ModuleList(
            Made(latent_dim, hidden, context, reverse=step % 2 == 1, start=self.GATE) for step in range(steps)
        )

    def features(self, latent_dim: int) -> int:
        return 2 * latent_dim + self.context

    def forward(self, features: Tensor) -> Flowed:
        mean, logvar, context = features.tensor_split([self.latent_dim, 2 * self.latent_dim], dim=1)
        log_taken = len(self.networks) * math.log(1 + math.exp(-self.GATE))
        base = DiagonalGaussian(math.exp(log_taken) * mean, logvar + 2 * log_taken)
        seen = F.elu(context)
        return Flowed(base, tuple(Gated(cast(Made, network), seen) for network in self.networks))
