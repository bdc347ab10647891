"""Posterior distributions over codes."""

from typing import NamedTuple

import torch
from torch import Tensor

from vaezoo.distributed import batch_shares
from vaezoo.metrics.divergences import gaussian_kl, gaussian_log_prob


class DiagonalGaussian(NamedTuple):
    """N(mean, diag(exp(logvar))) for each image of a batch; both tensors are (B, D)."""

    mean: Tensor
    logvar: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of each dimension: (B, D)."""
        return _std(self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One code per image, differentiable by the reparametrisation trick: (B, D)."""
        # Not ``self.std``: torch.compile of 2.6 breaks the graph at a property of a named tuple.
        return self.mean + _std(self.logvar) * batch_shares.normal_like(self.mean, generator)

    def kl(self) -> Tensor:
        """KL divergence from the standard normal prior per dimension, in nats: (B, D)."""
        return gaussian_kl(self.mean, self.logvar)

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density of ``code`` (..., B, D), summed over dimensions, in nats: (..., B)."""
        return gaussian_log_prob(code, self.mean, self.logvar).sum(-1)


def _std(logvar: Tensor) -> Tensor:
    return torch.exp(0.5 * logvar)
