"""Images side by side in one array of pixels. Knows nothing of models, nor of how the array is drawn."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_SIDE, LARGEST_SIDE, NARROWEST = 56, 160, 32
"""Pixels on the screen of the longer side, and of the shorter one where there must be room for a number below."""

PAGE = 1.0
REAL = (0.95, 0.55, 0.0)
"""Colour of the frame round a real image among decoded ones."""

Cell = tuple[int, int]
"""Row and column of a tile."""


class Mosaic(NamedTuple):
    """Pixels (H, W, 3) in [0, 1] on a white page, and where the tiles lie in them, in pixels from the upper left."""

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
    """Images as they go on the screen: (B, C, H, W) in [0, 1] -> (B, height, width, 3), values kept as they are.

    Enlarged by repeating pixels, made smaller by averaging them: the longer side gets from ``smallest`` to ``largest``
    pixels, more only where the shorter one would be too narrow for a label. One channel gives grey, three give colour,
    any other number the grey of their mean.
    """
    images = images.detach().float().cpu().clamp(0, 1)
    height, width = images.shape[-2:]
    longer = max(height, width)
    if longer > largest:
        size = (max(1, round(height * largest / longer)), max(1, round(width * largest / longer)))
        images = F.adaptive_avg_pool2d(images, size)
    zoom = max(1, -(-smallest // longer), -(-min(smallest, NARROWEST) // min(images.shape[-2:])))
    images = images.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return images.permute(0, 2, 3, 1).numpy()


def compose(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    gap: int = 4,
    before_row: Mapping[int, int] | None = None,
    before_column: Mapping[int, int] | None = None,
) -> Mosaic:
    """One array of rows of images, each (C, H, W) in [0, 1] and of the same size; None leaves its place empty.

    ``gap`` pixels lie round every tile; ``before_row`` and ``before_column`` add pixels before those rows and columns.
    No value is scaled: a grey of 0.5 stays 0.5 whatever stands beside it.
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
    """The same mosaic with a coloured frame round some tiles; it lies in the gap and covers no pixel of an image."""
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


# what stands in which picture ----------------------------------------------------------------------------------------


def reconstruction_mosaic(x: Tensor, recon: Tensor) -> Mosaic:
    """Originals, reconstructions and absolute errors in three rows: (B, C, H, W) twice. None is rescaled."""
    return compose([list(x), list(recon), list((x - recon).abs())])


def interpolation_mosaic(start: Tensor, end: Tensor, strips: Mapping[str, Tensor]) -> Mosaic:
    """For each pair and method a row: real start, decoded steps, real end; the real ones framed and set apart.

    ``start`` and ``end`` are (B, C, H, W), each of ``strips`` is (B, steps, C, H, W). A pair's rows stand together.
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
    """A first row with the real image, framed, and its reconstruction, both (C, H, W); then strips (R, S, C, H, W).

    Below each strip there is room for a mark.
    """
    rows: list[list[Tensor | None]] = [[image, recon], *(list(strip) for strip in strips)]
    room = {1: 18} | dict.fromkeys(range(2, len(rows)), 6)
    return framed(compose(rows, before_row=room), [(0, 0)])
