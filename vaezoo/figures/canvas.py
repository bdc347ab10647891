"""Matplotlib figures laid out in pixels, and what is drawn on them: text, axes and images."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from vaezoo.figures.mosaics import Mosaic

DPI = 100
"""Resolution of the layout: at it, image pixels are whole page pixels. Files may have another."""
VECTOR_DPI = 300
"""Resolution of images within vector files."""
TITLE, NOTE, LABEL = 10.5, 8.5, 8.5
"""Font sizes in points."""
MARGIN = 12
INK, FAINT = "#1a1a1a", "#5a5a5a"
UNHINTED: dict[Any, Any] = {"text.hinting": "none"}
"""Text without hinting, which is faster."""


def page(width: float, height: float) -> Figure:
    """An empty white figure, width and height in pixels, without pyplot's global state."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def raster(figure: Figure) -> np.ndarray:
    """Render a figure at its own resolution: uint8 (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    with rc_context(UNHINTED):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_vector(figure: Figure, file: Path | BinaryIO, kind: str) -> None:
    """Write a figure as ``pdf`` or ``svg``, with text as text, images at their own pixels, and no date."""
    dateless = {"pdf": {"CreationDate": None}, "svg": {"Date": None, "Creator": None}}[kind]
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "vaezoo", **UNHINTED}):
        figure.savefig(file, format=kind, dpi=VECTOR_DPI, metadata=dateless, facecolor="white")


class Pixels(Artist):
    """An image (H, W, 3) in [0, 1] drawn pixel by pixel, with its upper left corner at (left, top).

    ``Axes.imshow`` would resample it, which takes most of the time of drawing. Above ``DPI``, pixels are repeated, so
    that edges stay sharp.
    """

    def __init__(self, pixels: np.ndarray, left: int, top: int) -> None:
        super().__init__()
        self._rgba = np.full((*pixels.shape[:2], 4), 255, dtype=np.uint8)
        np.multiply(pixels, 255, out=self._rgba[::-1, :, :3], casting="unsafe")  # Agg reads upwards
        self._left, self._top = left, top

    def draw(self, renderer: RendererBase) -> None:
        """Draw the image; called by matplotlib."""
        unit = self.get_figure().dpi / DPI  # type: ignore[union-attr]
        height = renderer.get_canvas_width_height()[1]
        below = height - (self._top + len(self._rgba)) * unit
        rgba = _repeated(self._rgba, unit * renderer.get_image_magnification())
        left, below = (value if renderer.option_scale_image() else round(value) for value in (self._left * unit, below))
        renderer.draw_image(renderer.new_gc(), left, below, rgba)


def _repeated(pixels: np.ndarray, scale: float) -> np.ndarray:
    """Pixels (H, W, 4) enlarged by repeating them, as evenly as the scale allows."""
    if scale == 1:
        return pixels
    rows, columns = (
        (np.arange(round(size * scale)) / scale).astype(int).clip(0, size - 1) for size in pixels.shape[:2]
    )
    return np.ascontiguousarray(pixels[rows][:, columns])


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a position in pixels from the figure's upper left corner."""
    whole_width, whole_height = figure.get_size_inches() * DPI
    bottom = whole_height - top - height
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def draw_text(
    figure: Figure,
    x: float,
    y: float,
    text: str,
    size: float = LABEL,
    *,
    align: str = "left",
    vertical: str = "top",
    colour: str = INK,
) -> None:
    """Draw text at (x, y), in pixels from the figure's upper left corner; ``size`` in points."""
    width, height = figure.get_size_inches() * DPI
    # Names of folders may contain dollar signs, which matplotlib would parse as formulas.
    figure.text(x / width, 1 - y / height, text, size=size, ha=align, va=vertical, color=colour, parse_math=False)


def mark(figure: Figure, places: Sequence[tuple[float, float]]) -> None:
    """Draw small triangles at points (x, y), in pixels from the figure's upper left corner."""
    width, height = figure.get_size_inches() * DPI
    x, y = [x / width for x, _ in places], [1 - y / height for _, y in places]
    line = Line2D(x, y, linestyle="none", marker=(3, 0, 0), markersize=5, color=INK, transform=figure.transFigure)
    figure.add_artist(line)


@lru_cache(maxsize=1024)
def text_width(text: str, size: float) -> float:
    """Width of the longest line of ``text`` in pixels; ``size`` in points."""
    font = FontProperties(size=size)
    lines = text.split("\n")
    with rc_context(UNHINTED):
        return max(_pen().get_text_width_height_descent(line, font, ismath=False)[0] for line in lines)


def heading(figure: Figure, title: str, note: str = "", left: float = MARGIN) -> None:
    """Draw a title at the upper left, and a fainter note below it."""
    draw_text(figure, left, MARGIN, title, TITLE)
    if note:
        draw_text(figure, left, MARGIN + 20, note, NOTE, colour=FAINT)


def titled(title: str, subject: str) -> str:
    """``title: subject``, or the title alone without a subject."""
    return f"{title}: {subject}" if subject else title


def heading_width(title: str, note: str = "") -> int:
    """Minimum width of a page for its heading, in pixels."""
    return round(max(text_width(title, TITLE), text_width(note, NOTE))) + 2 * MARGIN


def heading_height(note: str = "") -> int:
    """Height of the heading, in pixels from the upper edge."""
    return MARGIN + (42 if note else 24)


def mosaic_page(
    mosaic: Mosaic,
    title: str,
    note: str = "",
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
) -> tuple[Figure, tuple[int, int]]:
    """A figure of a mosaic at its own size, with row labels, column labels and captions below the columns.

    Also returns the mosaic's upper left corner in pixels. Column labels and captions wider than a tile are omitted.
    """
    column_labels, captions = (_if_they_fit(labels, mosaic) for labels in (column_labels, captions))
    left = round(MARGIN + max((text_width(label, LABEL) + 8 for label in row_labels), default=0))
    top = heading_height(note) + (16 if column_labels else 0)
    height, width = mosaic.pixels.shape[:2]
    figure = page(
        max(left + width + MARGIN, heading_width(title, note)), top + height + (18 if captions else 0) + MARGIN
    )
    heading(figure, title, note)
    figure.add_artist(Pixels(mosaic.pixels, left, top))
    for y, label in zip(mosaic.tops, row_labels, strict=False):
        draw_text(figure, left - 4, top + y + mosaic.height / 2, label, align="right", vertical="center")
    for labels, y, vertical in ((column_labels, top - 1, "bottom"), (captions, top + height + 1, "top")):
        for x, label in zip(mosaic.lefts, labels, strict=False):
            draw_text(figure, left + x + mosaic.width / 2, y, label, align="center", vertical=vertical, colour=FAINT)
    return figure, (left, top)


def _if_they_fit(labels: Sequence[str], mosaic: Mosaic) -> Sequence[str]:
    widest = max((text_width(label, LABEL) for label in labels), default=0)
    return labels if widest <= mosaic.width + 2 else ()


@lru_cache(maxsize=1)
def _pen() -> RendererAgg:
    return RendererAgg(1, 1, DPI)
