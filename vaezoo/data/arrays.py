"""Images that are rows of an array on disk, of any number of channels, with exact values."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.errors import DataError, one_line
from vaezoo.data.levels import FULL, Extremes, Levels
from vaezoo.data.on_disk import Decoded, ImagesOnDisk
from vaezoo.data.pixels import Shape, binarize_once, fit

MOST_LOOKED_AT = 2**30
"""Maximum bytes of training images that are read to find their range, from the first on in the order of their split."""

TOGETHER = 256
"""Images that are read at a time to find their range."""


class StoredArray(Protocol):
    """An array on disk, whose shape and type are known without reading it."""

    @property
    def where(self) -> str:
        """The file, and the array's name in it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @property
    def is_quick(self) -> bool:
        """Whether rows need no decoding, so that worker processes do not help."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows (N,), ascending and each once: (N, ...)."""


class Layout(NamedTuple):
    """How an array's images lie in memory: their shape, and the axis of the array that holds channels, None if none."""

    image_shape: Shape
    channels: int | None


def layout_of(array: StoredArray, channels: int | None) -> Layout:
    """The layout of (N, H, W), (N, H, W, C) or (N, C, H, W): channels are the shorter of the two axes in question.

    ``channels`` of the settings decide if they are the length of one axis only. DataError for other shapes.
    """
    shape = array.shape
    if len(shape) == 3:
        return Layout((1, shape[1], shape[2]), None)
    if len(shape) != 4:
        raise DataError(
            f"{array.where} must have the shape (N, H, W), (N, H, W, C) or (N, C, H, W), N images of C channels, got"
            f" {shape}; reshape it"
        )
    first, last = shape[1], shape[3]
    if first == last:
        raise DataError(
            f"{array.where} has the shape {shape}, which may be (N, C, H, W) or (N, H, W, C); crop the images, so that"
            " the axis of channels differs in length"
        )
    is_first = first == channels if channels in (first, last) else first < last
    return Layout((first, shape[2], last), 1) if is_first else Layout((last, shape[1], shape[2]), 3)


def kind_of_values(array: StoredArray) -> str:
    """The kind of an array's values, a key of ``FULL``; DataError for types that are not pixels."""
    kinds = {"b": "8-bit", "u1": "8-bit", "u2": "16-bit", "f2": "floating-point", "f4": "floating-point"}
    kinds["f8"] = "floating-point"
    code = array.dtype.kind if array.dtype.kind == "b" else f"{array.dtype.kind}{array.dtype.itemsize}"
    if array.dtype.hasobject:
        raise DataError(
            f"{array.where} holds Python objects, which are never loaded; save it as uint8, uint16 or float32"
        )
    if code not in kinds:
        remedy = "save it as uint8, uint16 or float32"
        remedy += ", and set data.range=[LOW,HIGH]" if array.dtype.kind == "i" else ""
        raise DataError(f"{array.where} holds values of type {array.dtype}, which are not pixels; {remedy}")
    return kinds[code]


@dataclass(frozen=True)
class ArrayImages(ImagesOnDisk):
    """Rows of an array with labels (N,) or (N, F).

    Values are stored as they are: 8 bits as uint8, 16 bits as int16 (see ``pixels``), floating point as float32. 8 bits
    with ``levels`` of their own are stored as 16 bits.
    """

    array: StoredArray
    layout: Layout
    rows: NDArray[np.int64]
    labels: Tensor
    image_shape: Shape
    binarize: str = "none"
    levels: Levels | None = None
    fit: str = "crop"

    may_be_skipped = False

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, positions: NDArray[np.int64]) -> "ArrayImages":
        """The rows at ``positions`` (N,), in that order."""
        return replace(self, rows=self.rows[positions], labels=self.labels[torch.from_numpy(positions)])

    def reading_order(self) -> Tensor:
        """Positions (N,) in the order of the rows on disk."""
        return torch.from_numpy(np.argsort(self.rows, kind="stable"))

    def with_settings(self, binarize: str, levels: Levels | None, fit: str) -> "ArrayImages":
        """The same images, with these settings."""
        return replace(self, binarize=binarize, levels=levels, fit=fit)

    def path(self, position: int) -> str:
        """Array and row of the image at ``position``, such as ``images.npy[17]``."""
        return f"{self.array.where}[{self.rows[position]}]"

    @property
    def workers_help(self) -> bool:  # type: ignore[override]
        """Whether rows are decoded or resized."""
        return not self.array.is_quick or self.layout.image_shape != self.image_shape

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Type of the stored pixels."""
        kind = kind_of_values(self.array)
        if kind == "8-bit":
            return torch.uint8 if self.levels in (None, FULL[kind]) else torch.int16
        return torch.int16 if kind == "16-bit" else torch.float32

    def __getitems__(self, positions: list[int]) -> Decoded:
        try:
            values = self.values(positions)
        except Exception as error:  # libraries raise almost anything for damaged files
            reason = one_line(error)
            return Decoded(self._none(), self.labels[:0], [(position, reason) for position in positions])
        failed = self._unfit(values)
        sound = [at for at in range(len(positions)) if at not in failed]
        read = [positions[at] for at in sound]
        if not read:
            return Decoded(self._none(), self.labels[:0], [(positions[at], reason) for at, reason in failed.items()])
        pixels = self._stored(values[sound])
        if tuple(pixels.shape[1:]) != self.image_shape:
            black = 0.0 if self.levels is None or pixels.dtype == torch.uint8 else self.levels[0]
            pixels = fit(pixels, self.image_shape, self.fit, black)
        pixels = binarize_once(pixels, np.array(read, np.int64), self.binarize, self.levels)
        return Decoded(pixels, self.labels[read], [(positions[at], reason) for at, reason in failed.items()])

    def values(self, positions: list[int]) -> NDArray[Any]:
        """The values of the array at ``positions``, as they are: (B, C, H, W)."""
        rows, places = np.unique(self.rows[positions], return_inverse=True)
        values = self.array.read(rows)[places]
        if self.layout.channels is None:
            return values[:, None]
        return values if self.layout.channels == 1 else np.moveaxis(values, 3, 1)

    def _none(self) -> Tensor:
        return torch.empty((0, *self.image_shape), dtype=self.stored_dtype)

    def _stored(self, values: NDArray[Any]) -> Tensor:
        """Values as they are stored, in contiguous memory."""
        if values.dtype.kind == "b":
            values = values.astype(np.uint8) * np.uint8(255)
        if self.dtype == torch.int16:
            return torch.from_numpy(np.ascontiguousarray(values, np.uint16).view(np.int16))
        return torch.from_numpy(np.ascontiguousarray(values, np.uint8 if self.dtype == torch.uint8 else np.float32))

    def _unfit(self, values: NDArray[Any]) -> dict[int, str]:
        """Why some images (B, C, H, W) cannot be used, by their position in the batch."""
        kind = kind_of_values(self.array)
        low, high = self.levels or FULL[kind]
        if values.dtype.kind == "b" or (low, high) == FULL[kind] != FULL["floating-point"] or not values.size:
            return {}
        least, most = (extreme(axis=(1, 2, 3)) for extreme in (values.min, values.max))
        inside = (least >= low) & (most <= high)  # False for values that are not finite
        return {int(at): _complaint(least[at], most[at], low, high) for at in np.flatnonzero(~inside)}

    def look(self) -> list[Extremes]:
        """The extremes of the first images, of ``MOST_LOOKED_AT`` bytes in all; DataError if they are not finite."""
        kind = kind_of_values(self.array)
        each = max(1, self.array.dtype.itemsize * int(np.prod(self.array.shape[1:])))
        count = min(len(self), max(1, MOST_LOOKED_AT // each))
        found = []
        for start in range(0, count, TOGETHER):
            try:
                values = self.values(list(range(start, min(count, start + TOGETHER))))
            except (ValueError, OSError) as error:
                raise DataError(f"{self.path(start)} cannot be used: {one_line(error)}") from error
            values = values.astype(np.uint8) * np.uint8(255) if values.dtype.kind == "b" else values
            least, most = (extreme(axis=(1, 2, 3)) for extreme in (values.min, values.max))
            for at in np.flatnonzero(~(np.isfinite(least) & np.isfinite(most)))[:1]:
                raise DataError(f"{self.path(start + int(at))} cannot be used: {NOT_FINITE}")
            found += [Extremes(kind, float(low), float(high)) for low, high in zip(least, most, strict=True)]
        return found


NOT_FINITE = "some of its values are not finite; leave it out of the array"


def _complaint(least: float, most: float, low: float, high: float) -> str:
    if not np.isfinite(least) or not np.isfinite(most):
        return NOT_FINITE
    return (
        f"its values are {least:g} to {most:g}, beyond the range {low:g} to {high:g}; set a wider"
        " data.range=[LOW,HIGH], or clip the array"
    )
