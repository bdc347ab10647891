"""How a chart looks and how it gets into a page: SVG that follows the page's colours, PNG for the folder."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vaezoo.files import replacing

INK, FAINT, GRID = "#1b2330", "#5b6675", "#dde2e9"
SERIES = (
    *("#0067b1", "#cc4c02", "#00875f", "#b0489b", "#b58900", "#3a9fd6"),
    *("#6b4fa0", "#8c564b", "#4d7c0f", "#be123c", "#0f766e", "#64748b"),
)
"""A colour for each variant in a page of light background; the page's style sheet has those for a dark one."""
MARKERS = "osD^vPX*<>hp"
WIDTH, HEIGHT = 350, 270
"""Pixels of a chart: what a phone shows without making letters smaller."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.formatter.useoffset": False,
    "axes.unicode_minus": True,
}


@dataclass
class Panel:
    """One drawing with a name for its file, what it shows in words, and its markup."""

    name: str
    alt: str
    svg: Markup


def colour(index: int) -> str:
    """The colour of the variant at this place."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


@contextmanager
def styled() -> Iterator[None]:
    """Charts made within look like the page's."""
    with matplotlib.rc_context(STYLE):
        yield


def chart(title: str, x: str = "", y: str = "", *, width: int = WIDTH, height: int = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of this many pixels with one pair of axes."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="none")
    axes.set_title(title)
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def panel(figure: Figure, name: str, alt: str, folder: Path) -> Panel:
    """Write ``folder/name.png`` and give the same drawing for the page."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, dpi=144)
        with replacing(folder / f"{name}.png") as new:
            figure.savefig(new, format="png", dpi=160, facecolor="white")
    return Panel(name, alt, Markup(_in_page(file.getvalue(), alt)))


def _in_page(svg: str, alt: str) -> str:
    """Matplotlib's file as an element of a page: no prolog, colours by name, a title, no ids that could meet others."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    names = {INK: "ink", FAINT: "faint", GRID: "grid"} | {hex_: f"c{at}" for at, hex_ in enumerate(SERIES)}
    for hex_, name in names.items():
        svg = svg.replace(hex_, f"var(--{name})")
    head, _, rest = svg.partition(">")
    head = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', head)
    return f'{head} role="img" aria-label="{Markup.escape(alt)}">{rest}'


def limits_of(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """From least to most with some room."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room
