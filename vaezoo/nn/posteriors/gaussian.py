"""Gaussian posteriors with independent dimensions and with full covariances."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import LOG_2PI, gaussian_kl, gaussian_kl_between, gaussian_log_prob
from vaezoo.nn.posteriors.base import Draw, Moments, PosteriorModel, normal_draws, sampled_kl
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.priors.gaussian import GaussianOfRows, StandardNormal


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(logvar))) for each image of a batch; both tensors are (B, D)."""

    mean: Tensor
    logvar: Tensor

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """Codes by the reparametrisation trick, one set after another: (K, B, D) and (K, B)."""
        std = torch.exp(0.5 * self.logvar)
        codes = [self.mean + std * noise for noise in normal_draws(self.mean, samples, generator)]
        code = torch.stack(codes) if samples > 1 else codes[0].unsqueeze(0)
        return Draw(code, lambda: self.log_prob(code), codes[0])

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence in nats: per dimension (B, D) from a Gaussian with independent dimensions, else estimated from
        the draw, (B, 1)."""
        if isinstance(prior, GaussianOfRows):
            return gaussian_kl_between(self.mean, self.logvar, prior.mean, prior.logvar)
        return gaussian_kl(self.mean, self.logvar) if _is_standard(prior) else sampled_kl(prior, draw)

    def kl_by(self, prior: Prior) -> str:
        """``dimension`` for a Gaussian prior with independent dimensions, else ``whole``."""
        return "dimension" if _is_standard(prior) or isinstance(prior, GaussianOfRows) else "whole"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of ``code`` (..., B, D), summed over dimensions, in nats: (..., B)."""
        return gaussian_log_prob(code, self.mean, self.logvar).sum(-1)

    def detached(self) -> "DiagonalGaussian":
        """The same distribution without gradients for its parameters."""
        return DiagonalGaussian(self.mean.detach(), self.logvar.detach())

    def moments(self) -> Moments:
        """Mean and log variance, each (B, D)."""
        return self.mean, self.logvar


class FullGaussian(NamedTuple):
    """N(mean, L L') for each image of a batch, with correlated dimensions.

    ``mean`` is (B, D); ``factor`` (B, D, D) is the lower triangular L with a positive diagonal.
    """

    mean: Tensor
    factor: Tensor

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """Codes by the reparametrisation trick, one set after another: (K, B, D) and (K, B)."""
        noise = torch.stack(normal_draws(self.mean, samples, generator))
        code = self.mean + torch.einsum("...ij,k...j->k...i", self.factor, noise)
        return Draw(code, lambda: self._log_prob_of(noise))

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence in nats, (B, 1): in closed form from N(0, I), else estimated from the draw."""
        if not _is_standard(prior):
            return sampled_kl(prior, draw)
        squares = self.factor.square().sum((-2, -1)) + self.mean.square().sum(-1)
        return 0.5 * (squares - self.mean.shape[-1] - 2 * self._log_diagonal())[..., None]

    def kl_by(self, prior: Prior) -> str:
        """``whole``: the KL divergence of correlated dimensions is no sum over dimensions."""
        return "whole"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of ``code`` (..., B, D), in nats: (..., B)."""
        difference = (code - self.mean)[..., None]
        factor = self.factor.expand(*difference.shape[:-2], *self.factor.shape[-2:])
        return self._log_prob_of(torch.linalg.solve_triangular(factor, difference, upper=False)[..., 0])

    def detached(self) -> "FullGaussian":
        """The same distribution without gradients for its parameters."""
        return FullGaussian(self.mean.detach(), self.factor.detach())

    def moments(self) -> None:
        """None: the dimensions are not independent."""
        return None

    def _log_prob_of(self, noise: Tensor) -> Tensor:
        """Log density of the code mean + L noise: (..., B, D) -> (..., B)."""
        return -0.5 * (noise.square() + LOG_2PI).sum(-1) - self._log_diagonal()

    def _log_diagonal(self) -> Tensor:
        return self.factor.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)


def _is_standard(prior: Prior) -> bool:
    return isinstance(prior, StandardNormal)


class Diagonal(PosteriorModel):
    """Diagonal Gaussians: mean and log variance of each dimension.

    Args:
        logvar_range: least and greatest log variance, beyond which they are clamped and have no gradient; None for no
            bounds.
    """

    makes_moments, is_flat = True, False

    def __init__(self, *, logvar_range: list[float] | None = None) -> None:
        super().__init__()
        if logvar_range is not None and not (len(logvar_range) == 2 and logvar_range[0] < logvar_range[1]):
            raise ConfigError(
                "model.posterior_options.logvar_range must be two numbers, the smaller one first, got"
                f" {list(logvar_range)}"
            )
        self.logvar_range = logvar_range

    def features(self, latent_dim: int) -> int:
        return 2 * latent_dim

    def forward(self, features: Tensor) -> DiagonalGaussian:
        mean, logvar = features.chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar if self.logvar_range is None else logvar.clamp(*self.logvar_range))


class Full(PosteriorModel):
    """Gaussians with full covariances: mean, and log diagonal and lower triangle of a Cholesky factor.

    The triangle is scaled down by ``SMALL``, so that an untrained posterior is nearly diagonal.
    """

    SMALL = 0.01

    def features(self, latent_dim: int) -> int:
        return 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def forward(self, features: Tensor) -> FullGaussian:
        size = (math.isqrt(8 * features.shape[1] + 9) - 3) // 2
        mean, log_diagonal, lower = features.split([size, size, features.shape[1] - 2 * size], dim=1)
        row, column = torch.tril_indices(size, size, -1, device=features.device)
        triangle = features.new_zeros(len(features), size, size)
        triangle[:, row, column] = self.SMALL * lower
        return FullGaussian(mean, triangle + torch.diag_embed(torch.exp(log_diagonal)))
