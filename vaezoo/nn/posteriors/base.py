"""What all posterior distributions q(z|x) over codes offer."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vaezoo.distributed import batch_shares
from vaezoo.nn.priors.base import Prior

Moments = tuple[Tensor, Tensor]
"""Mean and log variance of independent Gaussian dimensions, each (B, D)."""


class Draw:
    """Codes drawn from a posterior, and their log density, which is computed when it is first read.

    ``code`` (K, B, D) is differentiable where the family is, and ``first`` (B, D) is the first of the K. ``log_prob``
    (K, B) is log q(z|x) of each code, in nats.
    """

    def __init__(self, code: Tensor, log_prob: Callable[[], Tensor], first: Tensor | None = None) -> None:
        self.code = code
        self.first = code[0] if first is None else first
        self._compute = log_prob
        self._log_prob: Tensor | None = None

    @property
    def log_prob(self) -> Tensor:
        """log q(z|x) of each code, in nats: (K, B)."""
        if self._log_prob is None:
            self._log_prob = self._compute()
        return self._log_prob

    def seen_through(self, code: Tensor) -> "Draw":
        """The same draw with another tensor of its codes, such as a view whose gradient is changed."""
        return Draw(code, lambda: self.log_prob)

    def __iter__(self) -> Iterator[Tensor]:
        """Codes, and their log density."""
        return iter((self.code, self.log_prob))


class Posterior(Protocol):
    """q(z|x) of each image of a batch; made anew for each batch, of tensors only.

    A family whose density of given codes is known without a draw also has ``log_prob(code)``, (K, B, D) -> (K, B), and
    ``detached()``, the same distribution without gradients for its parameters. One that is not a named tuple of
    tensors has ``map(function)``, the distribution whose tensors are those values of a function.
    """

    @property
    def mean(self) -> Tensor:
        """The code that ``encode`` returns: (B, D)."""

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> Draw:
        """``samples`` codes per image, one after another, so that the first do not depend on ``samples``."""

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """KL divergence from a prior, in nats: (B, G), exact if there is a closed form, else estimated from ``draw``.

        ``kl_by`` says what the G columns are.
        """

    def kl_by(self, prior: Prior) -> str:
        """What the columns of ``kl`` are: ``dimension``, ``level``, ``group``, or ``whole`` for one column."""

    def moments(self) -> Moments | None:
        """Mean and log variance if the dimensions are independent Gaussians, else None."""


def sampled_kl(prior: Prior, draw: Draw) -> Tensor:
    """Estimate of the KL divergence from the codes of a draw, log q(z|x) - log p(z), in nats: (B, 1).

    It can be negative for a single image; its expectation cannot.
    """
    return (draw.log_prob - prior.log_prob(draw.code)).mean(0)[:, None]


def normal_draws(mean: Tensor, samples: int, generator: torch.Generator | None) -> list[Tensor]:
    """Standard normal noise, one draw after another, each of the shape of ``mean``."""
    return [batch_shares.normal_like(mean, generator) for _ in range(samples)]


class PosteriorModel(nn.Module):
    """A family of posteriors, with its parameters if it has any. ``forward`` maps encoder outputs to posteriors.

    ``makes_moments`` marks independent Gaussian dimensions; ``is_flat`` families that are not for spatial codes;
    ``can_be_detached`` those that know the density of given codes without gradients for their parameters;
    ``is_spherical`` codes on the unit sphere.
    """

    makes_moments = False
    is_flat = True
    can_be_detached = True
    is_spherical = False
    logvar_range: list[float] | None = None
    """Least and greatest log variance that it gives, if there are bounds."""

    def features(self, latent_dim: int) -> int:
        """Encoder outputs that it needs for ``latent_dim`` dimensions."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Any:
        """Encoder outputs (B, F) -> the posterior."""
        raise NotImplementedError

    def prior(self, device: torch.device) -> Prior | None:
        """The prior that belongs to the family, for codes on ``device``; None if it takes any."""
        return None

    def project(self, code: Tensor) -> Tensor:
        """The nearest codes that the family can draw: (B, D) -> (B, D)."""
        return code
