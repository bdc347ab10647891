"""Types shared by models and training: batches, weights of the objective and loss terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vaezoo.nn.posteriors.base import Draw, Posterior

Batch = Sequence[Any]
"""Images (B, C, H, W) in [0, 1], labels, and, if several devices split a batch, the ``BatchShare``."""

Weights = Mapping[str, float | Tensor]
"""Weights of an objective by name; tensors () in compiled steps, so that new values need no recompilation."""


@dataclass
class Terms:
    """Unweighted loss terms of each image of a batch, in nats.

    Args:
        recon: -log p(x|z), summed over pixels and channels, mean over the draws of the code: (B,).
        kl: KL divergence of the posterior from the prior, (B, G); G = 0 without a posterior.
        penalties: further terms (B,) by name.
        code: the code without noise, (B, D), which spares validation a second encoder pass; None if it is the mean of
            ``posterior``, which training need not compute.
        rate: nats that the code of each image costs, (B,): the sum of ``kl`` unless given, as by discrete codes; None
            without a posterior if not given, and then there is no ELBO.
        kl_by: what the columns of ``kl`` are: ``dimension``, ``level`` of a hierarchy or kind of code, ``group`` of a
            discrete code, or ``whole`` (G = 1). An estimate for the whole can be negative for a single image.
        log_weights: log p(x, z) - log q(z|x) of each draw, (K, B), for bounds of several draws.
        encoder_log_weights: the same values with gradients for the encoder only, for bounds that split the two.
        posterior, draw: what the terms were computed from.
        batch_statistics: names of penalties, or other parts of the objective, that are biased statistics of a batch:
            for training only. Neither they nor the objective are logged in validation and test.
        unbiased_statistics: names of penalties that are statistics of a batch with the same expectation whatever its
            size.
        critic: what the critics minimise, (B,); not part of the objective.
        usage: how often each image uses each entry of a codebook, (B, K) by name of the codebook.
    """

    recon: Tensor
    kl: Tensor
    penalties: dict[str, Tensor] = field(default_factory=dict)
    code: Tensor | None = None
    rate: Tensor = None  # type: ignore[assignment]
    kl_by: str = "dimension"
    log_weights: Tensor | None = None
    encoder_log_weights: Tensor | None = None
    posterior: Posterior | None = None
    draw: Draw | None = None
    batch_statistics: frozenset[str] = frozenset()
    unbiased_statistics: frozenset[str] = frozenset()
    critic: Tensor | None = None
    usage: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate is None and self.has_posterior:
            self.rate = self.kl.sum(1)

    @property
    def has_rate(self) -> bool:
        """Whether codes have a rate; only then is there an ELBO."""
        return self.rate is not None

    @property
    def has_posterior(self) -> bool:
        """Whether the model has a posterior, of which there are statistics such as active units."""
        return self.kl.shape[1] > 0

    @property
    def noiseless_code(self) -> Tensor | None:
        """``code``, or else the posterior's mean, if there is either: (B, D)."""
        return self.posterior.mean if self.code is None and self.posterior is not None else self.code

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound log p(x|z) - rate, in nats, at beta = 1 whatever the objective: (B,)."""
        return -self.recon - self.rate

    def named(self) -> dict[str, Tensor]:
        """The terms (B,) by the names under which they are logged; ``kl`` is the rate, and levels are numbered."""
        kl = {"kl": self.rate} if self.has_rate else {}
        if self.kl_by == "level":
            kl |= {f"kl_{level}": column for level, column in enumerate(self.kl.unbind(1), 1)}
        return {"recon": self.recon, **kl, **self.penalties}
