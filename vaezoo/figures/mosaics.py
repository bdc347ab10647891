"""Mosaics: images arranged in one array of pixels. Pixel values are never rescaled."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_SIDE, LARGEST_SIDE, NARROWEST = 56, 160, 32
"""Limits of a tile's longer side, and minimum of its shorter side, which leaves room for a label; in pixels."""

PAGE = 1.0
REAL = (0.95, 0.55, 0.0)
"""Colour of the frame around real images."""

Cell = tuple[int, int]
"""Row and column of a tile."""


class Mosaic(NamedTuple):
    """Pixels (H, W, 3) in [0, 1], positions of the tile rows and columns, and the size of a tile, all in pixels."""

    pixels: np.ndarray
    tops: list[int]
    lefts: list[int]
    height: int
    width: int

    def tile(self, row: int, column: int) -> np.ndarray:
        """The pixels of one tile: (height, width, 3)."""
        top, left = self.tops[row], self.lefts[column]
        return self.pixels[top : top + self.height, left : left + self.width]


def shown(images: Tensor, smallest: int = SMALLEST_SIDE, largest: int = LARGEST_SIDE) -> np.ndarray:
    """Images at display size: (B, C, H, W) in [0, 1] -> (B, height, width, 3).

    Enlarged by repeating pixels, reduced by averaging them, so that the longer side is ``smallest`` to ``largest``
    pixels, or more if the shorter one would be narrower than ``NARROWEST``. Colours are those of ``in_colour``.
    """
    images = images.detach().float().cpu().clamp(0, 1)
    height, width = images.shape[-2:]
    longer = max(height, width)
    if longer > largest:
        size = (max(1, round(height * largest / longer)), max(1, round(width * largest / longer)))
        images = F.adaptive_avg_pool2d(images, size)
    zoom = max(1, -(-smallest // longer), -(-min(smallest, NARROWEST) // min(images.shape[-2:])))
    images = images.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    return in_colour(images).permute(0, 2, 3, 1).numpy()


def in_colour(images: Tensor) -> Tensor:
    """Images with three channels, the colours of which ``colours_shown`` says: (B, C, H, W) -> (B, 3, H, W)."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] == 2:
        return torch.cat([images, torch.zeros_like(images[:, :1])], 1)
    return images[:, :3]


def colours_shown(channels: int) -> str:
    """How images of so many channels are shown, for titles; empty for grey and for colours."""
    if channels in (1, 3):
        return ""
    if channels == 2:
        return "channels 1 and 2 as red and green"
    return f"channels 1 to 3 of {channels} as red, green and blue"


def compose(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    gap: int = 4,
    before_row: Mapping[int, int] | None = None,
    before_column: Mapping[int, int] | None = None,
) -> Mosaic:
    """A mosaic of rows of images, each (C, H, W) in [0, 1] and of the same size; None leaves a tile empty.

    ``gap`` is the space around tiles in pixels; ``before_row`` and ``before_column`` add space before rows and columns.
    """
    cells = [(r, c) for r, row in enumerate(rows) for c, image in enumerate(row) if image is not None]
    tiles = shown(torch.stack([image for row in rows for image in row if image is not None]))
    height, width = tiles.shape[1:3]
    tops = _offsets(len(rows), height, gap, before_row or {})
    lefts = _offsets(max(len(row) for row in rows), width, gap, before_column or {})
    pixels = np.full((tops[-1] + height + gap, lefts[-1] + width + gap, 3), PAGE, dtype=np.float32)
    mosaic = Mosaic(pixels, tops, lefts, height, width)
    for (row, column), tile in zip(cells, tiles, strict=True):
        mosaic.tile(row, column)[:] = tile
    return mosaic


def framed(mosaic: Mosaic, cells: Collection[Cell], thickness: int = 2) -> Mosaic:
    """A copy with coloured frames around some tiles, drawn in the gaps, so that no image pixel is covered."""
    pixels = mosaic.pixels.copy()
    for row, column in cells:
        top, left = mosaic.tops[row] - thickness, mosaic.lefts[column] - thickness
        bottom, right = top + mosaic.height + 2 * thickness, left + mosaic.width + 2 * thickness
        pixels[top:bottom, left:right] = REAL
    framed_mosaic = mosaic._replace(pixels=pixels)
    for row, column in cells:
        framed_mosaic.tile(row, column)[:] = mosaic.tile(row, column)
    return framed_mosaic


def _offsets(count: int, size: int, gap: int, before: Mapping[int, int]) -> list[int]:
    offsets, at = [], 0
    for index in range(count):
        at += gap + before.get(index, 0)
        offsets.append(at)
        at += size
    return offsets


# layouts -------------------------------------------------------------------------------------------------------------


def reconstruction_mosaic(x: Tensor, recon: Tensor) -> Mosaic:
    """Three rows: originals (B, C, H, W), reconstructions (B, C, H, W) and absolute errors."""
    return compose([list(x), list(recon), list((x - recon).abs())])


def interpolation_mosaic(start: Tensor, end: Tensor, strips: Mapping[str, Tensor]) -> Mosaic:
    """One row per pair and method: real start, decoded steps, real end. Real images are framed; pairs are grouped.

    ``start`` and ``end`` are (B, C, H, W); ``strips`` by method are (B, steps, C, H, W).
    """
    rows: list[list[Tensor | None]] = [
        [start[pair], *strip[pair], end[pair]] for pair in range(len(start)) for strip in strips.values()
    ]
    last = len(rows[0]) - 1
    pairs_apart = {pair * len(strips): 10 for pair in range(1, len(start))}
    mosaic = compose(rows, gap=6, before_row=pairs_apart, before_column={1: 8, last: 8})
    return framed(mosaic, [(row, column) for row in range(len(rows)) for column in (0, last)])


def sample_mosaic(images: Tensor, columns: int) -> Mosaic:
    """Images (B, C, H, W) row by row; the last row may be shorter."""
    rows: list[list[Tensor | None]] = [list(images[at : at + columns]) for at in range(0, len(images), columns)]
    return compose(rows)


def traversal_mosaic(image: Tensor, recon: Tensor, strips: Tensor) -> Mosaic:
    """The framed image and its reconstruction, both (C, H, W), in the first row, then strips (R, S, C, H, W).

    There is space for a mark below each strip.
    """
    rows: list[list[Tensor | None]] = [[image, recon], *(list(strip) for strip in strips)]
    room = {1: 18} | dict.fromkeys(range(2, len(rows)), 6)
    return framed(compose(rows, before_row=room), [(0, 0)])
