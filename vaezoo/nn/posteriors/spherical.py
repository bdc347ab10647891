"""Posteriors on the unit sphere, whose KL divergence from the uniform distribution is exact."""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above, at_least
from vaezoo.nn import spheres
from vaezoo.nn.posteriors.base import Draw, PosteriorModel, normal_draws, sampled_kl
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.priors.spherical import UniformOnSphere

OPTIONS = "model.posterior_options"


class PowerSpherical(NamedTuple):
    """Density proportional to (1 + mean.z)^kappa on the unit sphere, for each image (De Cao and Aziz, 2020).

    ``mean`` (B, D) is the direction with the highest density, not the mean of the codes, which is shorter; ``kappa``
    is (B,).
    """

    mean: Tensor
    kappa: Tensor

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """Codes on the sphere, differentiable, one set after another: (K, B, D) and (K, B)."""
        noise = torch.stack(normal_draws(self.mean, samples, generator))
        code, log_half = spheres.power_spherical_draw(self.kappa, noise)
        return Draw(spheres.turned(code, self.mean), lambda: self._log_prob_of(log_half))

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence in nats, (B, 1): in closed form from the uniform distribution, else estimated from the draw."""
        return _kl(self, prior, draw, lambda kappa: spheres.power_spherical_kl(self.mean.shape[-1], kappa))

    def kl_by(self, prior: Prior) -> str:
        """``whole``: the coordinates depend on each other."""
        return "whole"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of ``code`` (..., B, D) on the sphere, in nats: (..., B)."""
        half = (code + self.mean).square().sum(-1) / 4  # (1 + mean.z) / 2 without a difference
        return self._log_prob_of(half.clamp(min=torch.finfo(half.dtype).tiny).log())

    def detached(self) -> "PowerSpherical":
        """The same distribution without gradients for its parameters."""
        return PowerSpherical(self.mean.detach(), self.kappa.detach())

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def _log_prob_of(self, log_half: Tensor) -> Tensor:
        """Log density where log (1 + mean.z) / 2 is ``log_half``: (..., B) -> (..., B)."""
        kappa = spheres.wide(self.kappa)
        log_normaliser = spheres.power_spherical_log_normaliser(self.mean.shape[-1], kappa) - kappa * math.log(2)
        return self.kappa * log_half - log_normaliser.to(self.kappa.dtype)


class VonMisesFisher(NamedTuple):
    """Density proportional to exp(kappa mean.z) on the unit sphere in three dimensions (Davidson et al., 2018).

    ``mean`` (B, 3) is the direction with the highest density, not the mean of the codes, which is shorter; ``kappa``
    is (B,).
    """

    mean: Tensor
    kappa: Tensor

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """Codes on the sphere, differentiable, one set after another: (K, B, 3) and (K, B)."""
        noise = torch.stack(normal_draws(self.mean, samples, generator))
        code, depth = spheres.von_mises_fisher_draw(self.kappa, noise)
        return Draw(spheres.turned(code, self.mean), lambda: self._log_prob_at(depth))

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence in nats, (B, 1): in closed form from the uniform distribution, else estimated from the draw."""
        return _kl(self, prior, draw, spheres.von_mises_fisher_kl)

    def kl_by(self, prior: Prior) -> str:
        """``whole``: the coordinates depend on each other."""
        return "whole"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of ``code`` (..., B, 3) on the sphere, in nats: (..., B)."""
        return self._log_prob_at((code - self.mean).square().sum(-1) / 2)  # 1 - mean.z without a difference

    def detached(self) -> "VonMisesFisher":
        """The same distribution without gradients for its parameters."""
        return VonMisesFisher(self.mean.detach(), self.kappa.detach())

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def _log_prob_at(self, depth: Tensor) -> Tensor:
        return spheres.von_mises_fisher_log_peak(self.kappa) - self.kappa * depth


def _kl(
    posterior: PowerSpherical | VonMisesFisher, prior: Prior, draw: Draw, exact: Callable[[Tensor], Tensor]
) -> Tensor:
    if not isinstance(prior, UniformOnSphere):
        return sampled_kl(prior, draw)
    return exact(spheres.wide(posterior.kappa)).to(posterior.kappa.dtype)[..., None]


class _Spherical(PosteriorModel):
    """A direction and a concentration kappa = 1 + softplus for each image.

    Above 1, kappa keeps the posterior from becoming uniform. It starts near ``kappa_start``, by default the number of
    dimensions: near 1, which is almost uniform, codes are learned late. ConfigError for ``kappa_start`` of 1 or less.
    """

    is_spherical = True
    distribution: ClassVar[type[PowerSpherical] | type[VonMisesFisher]]

    def __init__(self, *, latent_dim: int, kappa_start: float | None = None) -> None:
        super().__init__()
        at_least(latent_dim, 2, "model.latent_dim of codes on a sphere")
        above(latent_dim if kappa_start is None else kappa_start, 1, f"{OPTIONS}.kappa_start")
        wanted = (latent_dim if kappa_start is None else kappa_start) - 1
        self.kappa_offset = wanted + math.log(-math.expm1(-wanted))
        """Inverse of the softplus."""

    def features(self, latent_dim: int) -> int:
        return latent_dim + 1

    def forward(self, features: Tensor) -> PowerSpherical | VonMisesFisher:
        direction, raw = features[:, :-1], features[:, -1]
        return self.distribution(spheres.on_sphere(direction), 1 + F.softplus(raw + self.kappa_offset))

    def project(self, code: Tensor) -> Tensor:
        return spheres.on_sphere(code)


class PowerSphericalFamily(_Spherical):
    """Power Spherical distributions, in any number of dimensions."""

    distribution = PowerSpherical


class VonMisesFisherFamily(_Spherical):
    """von Mises-Fisher distributions in three dimensions, where a draw has a closed form; ConfigError for others."""

    distribution = VonMisesFisher

    def __init__(self, *, latent_dim: int, kappa_start: float | None = None) -> None:
        super().__init__(latent_dim=latent_dim, kappa_start=kappa_start)
        if latent_dim != 3:
            raise ConfigError(
                "model.posterior=von_mises_fisher can be drawn from without rejections for model.latent_dim=3 only, got"
                f" {latent_dim}; choose model.posterior=power_spherical"
            )
