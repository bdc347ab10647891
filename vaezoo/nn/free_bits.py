"""Free bits: a KL below a floor costs as much as the floor, so that codes are not given up early in training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.validation import above, check_arguments
from vaezoo.distributed import batch_shares


def freed(kl: Tensor, floor: float, *, per_image: bool = False) -> Tensor:
    """The KL with a floor for each of its groups, summed over them, in nats: (B, G) -> (B,).

    A group costs each image its KL if its mean over the whole batch is above ``floor``, and else the floor, without a
    gradient: the mean over images is sum_g max(floor, mean_b kl_bg) (Kingma et al., 2016, equation 15). It is biased.
    With ``per_image``, it is sum_g max(floor, kl_bg), which does not depend on the batch. Collective within a share
    unless ``per_image``.
    """
    if per_image:
        return kl.clamp(min=floor).sum(1)
    share = batch_shares.current()
    mean = batch_shares.sum_of_all(kl.sum(0)) / (len(kl) if share is None else share.total)
    return torch.where(mean > floor, kl, floor).sum(1)


class FreeBits:
    """The rule with a floor of ``nats`` for each group: a dimension, or a level of a hierarchy.

    A rate that is known only as a whole has the sum of the dimensions' floors. ConfigError for nats that are not above
    0.
    """

    def __init__(self, nats: float, *, per_image: bool = False) -> None:
        above(nats, 0, "model.free_bits")
        self.nats, self.per_image = float(nats), per_image

    @property
    def is_batch_statistic(self) -> bool:
        """Whether the costs depend on the batch."""
        return not self.per_image

    def __call__(self, kl: Tensor, kl_by: str, dimensions: int) -> Tensor:
        """What codes of so many dimensions cost, in nats: (B, G) -> (B,). ``kl_by`` says what the G columns are."""
        return freed(kl, self.nats * (dimensions if kl_by == "whole" else 1), per_image=self.per_image)

    def formula(self) -> str:
        """The KL with its floor as text."""
        return f"sum max({self.nats:g}, {'kl' if self.per_image else 'mean kl'})"

    def describe(self) -> str:
        """The rule as a sentence."""
        over = "of each image" if self.per_image else "on average over a batch"
        return f"free bits {self.nats:g}: a dimension or level costs no less than {self.nats:g} nats {over}"


def make_free_bits(nats: float | None, options: Mapping[str, Any] | None = None) -> FreeBits | None:
    """The rule with ``nats`` for each group, None for null or 0; ConfigError for unknown options or negative nats."""
    check_arguments(FreeBits, options or {}, key="model.free_bits_options", extra=("nats",))
    return FreeBits(nats, **(options or {})) if nats else None
