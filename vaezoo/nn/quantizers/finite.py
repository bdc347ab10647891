"""The quantiser that rounds each channel to one of a few levels, without a learned codebook."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import within
from vaezoo.nn.quantizers.base import MOST_CODES, OPTIONS, Quantized, Quantizer, precise, refuse_other_channels
from vaezoo.nn.quantizers.codebooks import straight_through

MARGIN = 1e-3
"""By how much a bounded channel exceeds its outermost levels, relative to their distance, as in the paper's code."""


class FiniteScalarQuantizer(Quantizer):
    """Channels bounded by tanh and rounded to ``levels`` numbers each (Mentzer et al., 2023).

    With h = (L - 1)(1 + 1e-3) / 2 and o = 1/2 for even L, 0 for odd, a channel is
    round(h tanh(z + atanh(o / h)) - o) / floor(L / 2), with the gradient of tanh. (The paper prints tan for atanh.)
    Even L are not symmetric: 8 levels are -1, -0.75, ..., 0.75. The index of a code counts the first channel fastest.
    ConfigError for fewer than 3 levels, or more than 65,536 codes.
    """

    reach: Tensor
    offset: Tensor
    shift: Tensor
    width: Tensor
    basis: Tensor
    count: Tensor

    def __init__(self, channels: int | None = None, *, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        super().__init__()
        _check_levels(levels)
        refuse_other_channels(channels, len(levels), "levels")
        self.channels, self.sizes = len(levels), (math.prod(levels),)
        count = torch.tensor(list(levels))[:, None, None]
        half, offset = (count - 1) * (1 + MARGIN) / 2, 0.5 * (count % 2 == 0)
        basis = torch.tensor([math.prod(levels[:place]) for place in range(len(levels))])[:, None, None]
        constants = {"reach": half, "offset": offset, "shift": torch.atanh(offset / half)}
        for name, value in {**constants, "width": count // 2, "basis": basis, "count": count}.items():
            self.register_buffer(name, value, persistent=False)
        self.channel_levels = [[(at - size // 2) / (size // 2) for at in range(size)] for size in levels]

    def _bounded(self, z: Tensor) -> Tensor:
        """Channels between their outermost levels, which are whole numbers: (B, c, h, w) -> the same."""
        return self.reach * torch.tanh(precise(z) + self.shift) - self.offset

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            bounded = self._bounded(z)
            rounded = straight_through(bounded, bounded.round())
            digits = rounded.detach().nan_to_num().long() + self.width  # NaN as a whole number is far below 0
            indices = (digits * self.basis).sum(1, keepdim=True)
            return Quantized(rounded / self.width, indices, {})

    def codes(self, indices: Tensor) -> Tensor:
        digits = indices[:, :1] // self.basis % self.count
        return (digits - self.width) / self.width

    def path(self, z: Tensor) -> Tensor:
        return self._bounded(z) / self.width

    def project(self, code: Tensor) -> Tensor:
        rounded = (precise(code) * self.width).round()
        return rounded.clamp(-self.width, self.count - 1 - self.width) / self.width


def _check_levels(levels: Sequence[int]) -> None:
    key = f"{OPTIONS}.levels"
    if not levels:
        raise ConfigError(f"{key} must have a number for each channel, got none")
    if min(levels) < 3:
        raise ConfigError(
            f"each of {key} must be at least 3, got {min(levels)}; for channels with two values set model.quantizer=lfq"
        )
    within(math.prod(levels), 1, MOST_CODES, f"the number of codes, which is the product of {key},")
