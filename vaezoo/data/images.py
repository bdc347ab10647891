"""Images in memory with their labels, and the factors that the labels are classes of."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Factor(NamedTuple):
    """One column of the labels: class ``k`` of the factor ``name`` stands for ``values[k]``."""

    name: str
    values: tuple[str, ...] | tuple[float, ...]


class Images(Protocol):
    """The interface that splitting requires."""

    @property
    def labels(self) -> Tensor:
        """Classes (N,), or (N, F) of several factors."""

    def __len__(self) -> int: ...

    def select(self, positions: NDArray[np.int64]) -> Self:
        """The images at ``positions`` (N,), in that order."""


class Pool(NamedTuple):
    """The images of a source, with its official splits; val and test are None if there are none."""

    train: Images
    val: Images | None
    test: Images | None
    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class ImageTensor:
    """Images in one tensor: uint8 (N, C, H, W), or bit-packed (N, bytes); labels int64 (N,) or (N, F)."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def byte_count(self) -> int:
        """Size of the pixels in bytes."""
        return self.pixels.numel() * self.pixels.element_size()

    def select(self, positions: NDArray[np.int64]) -> "ImageTensor":
        """The images at ``positions`` (N,), in that order."""
        chosen = torch.from_numpy(positions)
        return ImageTensor(self.pixels.index_select(0, chosen), self.labels.index_select(0, chosen))

    def to(self, device: torch.device) -> "ImageTensor":
        """The same images on ``device``."""
        return ImageTensor(self.pixels.to(device), self.labels.to(device))
