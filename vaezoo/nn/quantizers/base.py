"""What all quantisers offer: grids of vectors to grids of codes from a finite set."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

START_IMAGES = 1024
"""Images whose vectors k-means starts from."""


class Quantized(NamedTuple):
    """A quantised batch.

    ``code`` (B, c, h, w) has the values of codes and the gradient of the estimator; ``indices`` is long
    (B, levels, h, w); ``penalties`` are unweighted and (B,), summed over channels and positions.
    """

    code: Tensor
    indices: Tensor
    penalties: dict[str, Tensor]


class Quantizer(nn.Module):
    """Map from vectors to codes, in float32 whatever the precision; ``sizes`` is the number of codes of each level."""

    sizes: tuple[int, ...]

    @property
    def wants_images(self) -> int:
        """Number of images whose vectors ``start`` needs, 0 if it needs none or was called."""
        return 0

    def forward(self, z: Tensor) -> Quantized:
        """The code of each vector: (B, c, h, w)."""
        raise NotImplementedError

    def codes(self, indices: Tensor) -> Tensor:
        """The code with these indices: long (B, levels, h, w) -> (B, c, h, w)."""
        raise NotImplementedError

    def start(self, vectors: Tensor) -> None:
        """Fit the codes to vectors (N, c) before training; these must be the same on all ranks."""

    def update(self, restarts: bool = True) -> None:
        """Take over what training batches since the last call have gathered; called before each optimiser step."""

    def formula(self) -> str:
        """What is added to the objective besides the weighted commitment, in words: " + codebook", or nothing."""
        return ""


def usage(indices: Tensor, sizes: Sequence[int]) -> dict[str, Tensor]:
    """How often each image has each code: indices (B, levels, h, w), with ``sizes``, -> (B, K) by number of the level.

    The name of the level is empty if there is only one.
    """
    found = {}
    for number, (level, size) in enumerate(zip(indices.flatten(2).unbind(1), sizes, strict=True), 1):
        ones = torch.ones(level.shape, device=level.device)
        counts = ones.new_zeros(len(level), size).scatter_add_(1, level, ones)
        found[str(number) if len(sizes) > 1 else ""] = counts
    return found


def uniform_rate(positions: int, sizes: Sequence[int]) -> float:
    """-log of a uniform prior over the codes of ``positions`` (h times w) and of all levels, in nats per image."""
    return positions * sum(math.log(size) for size in sizes)
