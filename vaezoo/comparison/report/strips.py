"""Rows of images for the page, and figures of them for files. Pixel values are never rescaled."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaezoo.comparison.report.drawing import PRINT_DPI, save_pdf
from vaezoo.figures.canvas import mosaic_page, raster
from vaezoo.figures.mosaics import Mosaic, colours_shown, compose, in_colour, shown
from vaezoo.runs.files import replacing

LARGEST = 96
"""Longest side of an image on the page, in pixels; larger images are downsampled."""


def strip(images: Tensor) -> str:
    """Images (B, C, H, W) in [0, 1] side by side with transparent gaps, as a data URI."""
    tiles = shown(images, smallest=1, largest=LARGEST)
    height, width = tiles.shape[1:3]
    gap = max(1, width // 24)
    row = np.zeros((height, len(tiles) * (width + 2 * gap), 4))
    for at, tile in enumerate(tiles):
        left = at * (width + 2 * gap) + gap
        row[:, left : left + width, :3] = tile
        row[:, left : left + width, 3] = 1
    return data_uri((row * 255).round().astype(np.uint8), grey=images.shape[1] == 1)


def errors(x: Tensor, recon: Tensor, most: float) -> Tensor:
    """Mean absolute error over channels, black (0) to light yellow (``most``): (B, C, H, W) -> (B, 3, H, W)."""
    error = (x - recon).abs().mean(1).numpy() / max(most, 1e-12)
    colours = colormaps["magma"](error.clip(0, 1))[..., :3]
    return torch.from_numpy(colours).float().permute(0, 3, 1, 2)


def data_uri(pixels: np.ndarray, *, grey: bool = False) -> str:
    """uint8 pixels (H, W, 3 or 4) as the data URI of a PNG."""
    image = Image.fromarray(pixels)
    if grey and pixels.shape[2] == 4:
        image = image.convert("LA")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as ``path.png``, at print resolution, and ``path.pdf``."""
    figure.set_dpi(PRINT_DPI)
    with replacing(path.with_name(path.name + ".png")) as new:
        Image.fromarray(raster(figure)).save(new, "PNG", dpi=(PRINT_DPI, PRINT_DPI))
    save_pdf(figure, path)


def page(rows: Sequence[tuple[str, Tensor]], title: str, note: str = "", columns: Sequence[str] = ()) -> Figure:
    """A figure of labelled rows of images, each (B, C, H, W)."""
    images = [list(in_colour(row)) for _, row in rows]  # grey images and colour-coded errors fit in one figure
    labels = [label for label, _ in rows]
    note = "; ".join(filter(None, (note, colours_shown(rows[0][1].shape[1]))))
    figure, _ = mosaic_page(compose(images), title, note, row_labels=labels, column_labels=columns)
    return figure


def plane(pixels: np.ndarray, title: str) -> Figure:
    """A figure of a decoded plane, (H, W, 3) in [0, 1]."""
    figure, _ = mosaic_page(Mosaic(pixels, [], [], 0, 0), title)
    return figure
