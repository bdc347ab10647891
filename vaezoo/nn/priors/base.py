"""What all priors p(z) over codes offer, as distributions and as modules that evaluate them once per step."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Prior(Protocol):
    """p(z), evaluated: all networks that it depends on have run, so that many codes can be scored against it."""

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws (count, D) on the device of the prior, whatever that of the generator."""

    @property
    def factorises(self) -> bool:
        """Whether the dimensions are independent, which dimension-wise KL divergences require."""

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance, each (D,), of a Gaussian with independent dimensions; None for any other distribution."""

    def to(self, device: torch.device) -> "Prior":
        """The same distribution on another device."""


def normal_noise(size: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Standard normal draws on ``device``, drawn where the generator is."""
    if generator is None:  # torch.compile takes an unknown size only without one
        return torch.randn(size, device=device)
    return torch.randn(size, generator=generator, device=generator.device).to(device)


class PriorModel(nn.Module):
    """Parameters of a prior. ``forward`` evaluates it, once per step, given the model's encoder.

    ``needs_moments`` marks priors made of posteriors, which must be diagonal Gaussians; ``is_spherical`` those of
    codes on the unit sphere; ``needs_labels`` those that are another distribution for each label, which ``given``
    returns instead of ``forward``.
    """

    needs_moments = False
    is_spherical = False
    needs_labels = False

    @property
    def wants_images(self) -> int:
        """Number of training images that ``start_from`` wants before the first step; 0 for none."""
        return 0

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Prior:
        """The prior on ``device``; ``posterior`` maps images (B, C, H, W) to their posteriors."""
        raise NotImplementedError

    def given(self, labels: Tensor) -> Prior:
        """The prior of each row, given one-hot labels (B, classes)."""
        raise NotImplementedError

    def marginal(self, frequency: Tensor) -> Prior:
        """The prior over all labels, given their frequencies (classes,)."""
        raise NotImplementedError

    def start_from(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        """Set parameters that start from training images."""

    def describe(self) -> str:
        """The prior as text."""
        raise NotImplementedError
