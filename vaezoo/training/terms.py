"""What a model and its training hand each other: batches, weights of the objective and the terms of a loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Batch = Sequence[Any]
"""Images (B, C, H, W) in [0, 1], then labels, then which share of a batch they are if several devices have one."""

Weights = Mapping[str, float | Tensor]
"""Weights of an objective by name; tensors () where a step is compiled once for all of their values."""


@dataclass
class Terms:
    """What one batch costs, term by term and image by image, in nats; no term carries a weight.

    ``recon`` (B,) is -log p(x|z), summed over pixels and channels. ``kl`` (B, D) is the divergence of each latent
    dimension's posterior from its prior; a model without a posterior has D = 0. ``penalties`` holds further terms (B,)
    by their own names. ``code`` (B, D) is what the images are encoded to without noise, so the mean of a posterior: a
    model that gives it is not asked to encode the same images again when it is evaluated.
    """

    recon: Tensor
    kl: Tensor
    penalties: dict[str, Tensor] = field(default_factory=dict)
    code: Tensor | None = None
    rate: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rate = self.kl.sum(1)

    @property
    def has_posterior(self) -> bool:
        """Whether there is a rate at all; without one there is no evidence lower bound either."""
        return self.kl.shape[1] > 0

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound log p(x|z) - KL, at beta = 1 whatever was trained on, in nats: (B,)."""
        return -self.recon - self.rate
