"""Sprites: a reproduction of dSprites with its five known factors, rendered instead of downloaded.

Squares, ellipses and hearts in every combination of scale, orientation and position: 737,280 binary 64x64 images in
the order of dSprites (https://github.com/google-deepmind/dsprites-dataset, Matthey et al., 2017), pos_y fastest. The
original rendering code was never published; these outlines were fitted to published frames. The mean pixel value of the
whole set is 0.042493, that of the original file 0.042494.
"""

import logging
import math
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.data.images import Factor, ImageTensor

IMAGE_SHAPE = (1, 64, 64)
SIZES = (3, 6, 40, 32, 32)
COUNT = math.prod(SIZES)
SCALES = np.linspace(0.5, 1.0, 6)
# Both ends are included, as in the original: classes 0 and 39 are the same image.
ANGLES = np.linspace(0.0, 2 * np.pi, 40)
POSITIONS = np.linspace(0.0, 1.0, 32)
FACTORS = (
    Factor("shape", ("square", "ellipse", "heart")),
    Factor("scale", tuple(SCALES.round(1).tolist())),
    Factor("orientation", tuple(ANGLES.tolist())),
    Factor("pos_x", tuple(POSITIONS.tolist())),
    Factor("pos_y", tuple(POSITIONS.tolist())),
)

# Outlines at scale 1, in pixels from the centre, v downwards.
HALF_SIDE = 9.597  # slightly below 9.6, so that ties between edges and pixel centres fall as in the original
SEMI_AXES = (12.78, 7.22)
ELLIPSE_CORNERS = 64
HEART_CORNERS = 128
REACH = 13.6  # maximum distance of an outline from its centre

CACHE_NAME = "sprites-v1.npy"  # raise the number whenever a pixel changes
CHUNK = 256  # images drawn at a time, so that intermediate arrays fit in the CPU cache

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lattice:
    """Cells of the lattice of factors, not rendered yet."""

    root: Path
    cells: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def labels(self) -> Tensor:
        """Factor classes (N, 5)."""
        return torch.from_numpy(classes_of(self.cells))

    def select(self, positions: NDArray[np.int64]) -> "Lattice":
        """The cells at ``positions`` (N,), in that order."""
        return Lattice(self.root, self.cells[positions])

    def load(self) -> ImageTensor:
        """Bit-packed images (N, 512) with factor classes (N, 5), from the cache if there is one."""
        cache = open_cache(self.root)
        packed = render(self.cells) if cache is None else _gather(cache, self.cells)
        return ImageTensor(torch.from_numpy(packed), self.labels)


def classes_of(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Factor classes of cells: (N,) -> (N, 5)."""
    return np.stack(np.unravel_index(cells, SIZES), axis=1).astype(np.int64)


def render(cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Render cells as bit-packed images, row by row with the first pixel in the highest bit: (N,) -> (N, 512)."""
    classes = classes_of(cells)
    packed = np.empty((len(cells), IMAGE_SHAPE[1] * IMAGE_SHAPE[2] // 8), np.uint8)

    def draw(rows: NDArray[np.int64]) -> None:
        packed[rows] = np.packbits(_draw(classes[rows]).reshape(len(rows), -1), axis=1)

    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        list(threads.map(draw, _alike(classes)))
    return packed


def _alike(classes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Chunks of row indices with the same shape and scale, which can be drawn together."""
    kinds = classes[:, 0] * SIZES[1] + classes[:, 1]
    for kind in range(SIZES[0] * SIZES[1]):
        rows = np.flatnonzero(kinds == kind)
        yield from (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def _draw(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Draw images of one shape and scale: (N, 5) -> (N, 64, 64). A pixel is on if its centre is inside the outline."""
    shape, scale = classes[0, 0], SCALES[classes[0, 1]]
    margin = math.ceil(REACH * scale) + 1
    cosine, sine = np.cos(ANGLES[classes[:, 2]]), np.sin(ANGLES[classes[:, 2]])
    columns, right = _window(classes[:, 3], margin)
    rows, down = _window(classes[:, 4], margin)
    right, down = right[:, None, :] / scale, down[:, :, None] / scale
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    images = np.zeros((len(classes), *IMAGE_SHAPE[1:]), np.bool_)
    # Angles turn counter-clockwise on the screen, whose rows grow downwards.
    inside = _INSIDE[shape](cosine * right - sine * down, sine * right + cosine * down)
    images[np.arange(len(classes))[:, None, None], rows[:, :, None], columns[:, None, :]] = inside
    return images


def _window(position: NDArray[np.int64], margin: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixel indices around the centre along one axis, and their offsets from it: (N,) -> (N, 2 margin + 1) each."""
    centre = 16 + 32 * POSITIONS[position]
    pixels = np.floor(centre).astype(np.int64)[:, None] + np.arange(-margin, margin + 1)
    return pixels, pixels + 0.5 - centre[:, None]


def _inside_square(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.maximum(np.abs(u), np.abs(v)) < HALF_SIDE


def _inside_ellipse(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """An ellipse, drawn as an inscribed polygon with a corner on the major axis."""
    x, y = u / SEMI_AXES[0], v / SEMI_AXES[1]
    half = np.pi / ELLIPSE_CORNERS
    square = x * x + y * y
    inside = square < np.cos(half) ** 2
    # The angle matters only between the polygon's inner and outer circle, where few pixels are.
    edge = (square < 1) & ~inside
    angle = np.mod(np.arctan2(y[edge], x[edge]), 2 * half) - half
    inside[edge] = np.sqrt(square[edge]) * np.cos(angle) < np.cos(half)
    return inside


def _inside_heart(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A heart: symmetric, and every vertical line intersects it in one segment between two chains of corners."""
    distance = np.abs(u)
    return (np.interp(distance, *_HEART_TOP) < v) & (v < np.interp(distance, *_HEART_BOTTOM))


def _heart_chains() -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """Corners (u, v) of the right half, u increasing to the widest point: the upper chain, then the lower one."""
    angle = 2 * np.pi * np.arange(HEART_CORNERS // 2 + 1) / HEART_CORNERS
    u = 9.6 * np.sin(angle) ** 3
    v = -0.6625 * (13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)) - 1.44
    widest = HEART_CORNERS // 4
    return (u[: widest + 1], v[: widest + 1]), (u[: widest - 1 : -1], v[: widest - 1 : -1])


_HEART_TOP, _HEART_BOTTOM = _heart_chains()
_INSIDE = (_inside_square, _inside_ellipse, _inside_heart)


def open_cache(root: Path) -> NDArray[np.uint8] | None:
    """All bit-packed images (737280, 512), memory-mapped, or None if the file is missing or incomplete."""
    try:
        cache = np.load(root / "sprites" / CACHE_NAME, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return cache if cache.shape == (COUNT, 512) and cache.dtype == np.uint8 else None


def write_cache(root: Path) -> None:
    """Render all images and write them under ``root`` (377 MB); if that fails, log a warning."""
    if open_cache(root) is not None:
        return
    target = root / "sprites" / CACHE_NAME
    temporary = target.with_name(f"{CACHE_NAME}.{uuid.uuid4().hex}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:  # opened before rendering, to fail early if it is not writable
            np.save(file, render(np.arange(COUNT)))
        temporary.replace(target)
    except OSError as error:
        logger.warning("the sprites cannot be cached in %s (%s) and are drawn again in every run", target.parent, error)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder may not exist
        logger.debug("could not remove %s", path)


def _gather(cache: NDArray[np.uint8], cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Rows of the cache in the order of ``cells``, read from disk in ascending order."""
    order = np.argsort(cells)
    packed = np.empty((len(cells), cache.shape[1]), np.uint8)
    packed[order] = cache[cells[order]]
    return packed
