"""Types shared by models and training: batches, weights of the objective and loss terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Batch = Sequence[Any]
"""Images (B, C, H, W) in [0, 1], labels, and, if several devices split a batch, the ``BatchShare``."""

Weights = Mapping[str, float | Tensor]
"""Weights of an objective by name; tensors () in compiled steps, so that new values need no recompilation."""


@dataclass
class Terms:
    """Unweighted loss terms of each image of a batch, in nats.

    ``recon`` (B,) is -log p(x|z), summed over pixels and channels. ``kl`` (B, D) is the KL divergence of the posterior
    from the prior in each latent dimension; D = 0 without a posterior. ``penalties`` are further terms (B,) by name.
    ``code`` (B, D), optional, is the code without noise (the posterior mean); it spares validation a second encoder
    pass.
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
        """Whether the model has a posterior; only then are rate and ELBO defined."""
        return self.kl.shape[1] > 0

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound log p(x|z) - KL, in nats, at beta = 1 whatever the objective: (B,)."""
        return -self.recon - self.rate
