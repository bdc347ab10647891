"""Chart style and output: SVG in the page's colours, PNG and PDF with a legend for papers."""

import io
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaezoo.figures.canvas import DPI, text_width, write_vector
from vaezoo.runs.files import replacing

INK, FAINT, GRID = "#1b2330", "#5b6675", "#dde2e9"
SERIES = (
    *("#0067b1", "#cc4c02", "#00875f", "#b0489b", "#b58900", "#3a9fd6"),
    *("#6b4fa0", "#8c564b", "#4d7c0f", "#be123c", "#0f766e", "#64748b"),
)
"""Series colours on a light background; the page's style sheet has those for a dark one."""
MARKERS = "osD^vPX*<>hp"
GLYPHS = "●■◆▲▼✚✖★◀▶⬢⬟"
"""The markers as text."""
PRINT_DPI = 300
"""Resolution of PNG files, as journals require."""
LEGEND = 9.5
"""Font size of legends, in points."""
WIDTH, HEIGHT = 350, 270
"""Size of a chart in pixels: fits a phone without scaling."""
TITLE = 7.5
"""Width of a character of a title in pixels, above average, by which long titles are broken into lines."""
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
    """A chart: its file name without suffix, alternative text, and SVG for the page.

    ``index`` is that of the only model in it, None for a chart of several.
    """

    name: str
    alt: str
    svg: Markup
    index: int | None = None


def colour(index: int) -> str:
    """The colour of series ``index``; colours repeat."""
    return SERIES[index % len(SERIES)]


def marker(index: int) -> str:
    """The marker of series ``index``: those of one colour have different ones, up to 144 series."""
    return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def glyph(index: int) -> str:
    """The marker of series ``index`` as text."""
    return GLYPHS[MARKERS.index(marker(index))]


def series(index: int, tip: str) -> str:
    """The ``gid`` of a part of series ``index``, which the page can highlight, and which has ``tip`` at the pointer."""
    return f"s{index}|{tip}"


_pdf = ContextVar("pdf", default=True)


@contextmanager
def styled(*, pdf: bool = True) -> Iterator[None]:
    """Apply the page's style to charts created in this context; without ``pdf``, ``save_pdf`` writes nothing."""
    before = _pdf.set(pdf)
    try:
        with matplotlib.rc_context(STYLE):
            yield
    finally:
        _pdf.reset(before)


def save_pdf(figure: Figure, path: Path) -> None:
    """Write a figure as ``path`` with the suffix ``.pdf``, unless the context is without PDF."""
    if _pdf.get():
        with replacing(path.with_name(path.name + ".pdf")) as new:
            write_vector(figure, new, "pdf")


def chart(title: str, x: str = "", y: str = "", *, width: int = WIDTH, height: int = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; width and height in pixels."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="none")
    axes.set_title(textwrap.fill(title, int(width / TITLE), break_long_words=False))
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def panel(figure: Figure, name: str, alt: str, folder: Path, key: Sequence[Artist] = ()) -> Panel:
    """Write ``folder/name.png`` and, by ``save_pdf``, PDF with a legend of ``key``; the returned panel has none."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, dpi=144)
        if key:
            _add_legend(figure, key)
        with replacing(folder / f"{name}.png") as new:
            figure.savefig(new, format="png", dpi=PRINT_DPI, facecolor="white")
        save_pdf(figure, folder / name)
    return Panel(name, alt, Markup(_in_page(file.getvalue(), alt)))


def _add_legend(figure: Figure, key: Sequence[Artist]) -> None:
    """Add a legend below the axes, in as many columns as fit, and enlarge the figure by its height."""
    width, height = figure.get_size_inches() * 72
    widest = max(text_width(str(artist.get_label()), LEGEND) * 72 / DPI for artist in key) + 3.4 * LEGEND
    columns = min(len(key), max(1, int((width - 8) // widest)))
    rows = -(-len(key) // columns)
    figure.set_size_inches(width / 72, (height + 1.5 * LEGEND * rows + 6) / 72)
    figure.legend(
        handles=key, loc="outside lower left", ncols=columns, frameon=False, fontsize=LEGEND, borderpad=0.1,
        handlelength=1.6, handletextpad=0.5, columnspacing=1.0, labelspacing=0.35,
    )  # fmt: skip


def key_of(labels: Mapping[int, str], *, lines: bool = False) -> list[Artist]:
    """Legend entries of series, from index to label: their markers, or their lines."""
    return [
        Line2D(
            [], [], color=colour(at), label=label, linestyle="-" if lines else "", marker="" if lines else marker(at)
        )
        for at, label in labels.items()
    ]


def line(label: str, style: Any, tint: str = FAINT, width: float = 1.2) -> Artist:
    """Legend entry of a line."""
    return Line2D([], [], color=tint, linestyle=style, linewidth=width, label=label)


def _in_page(svg: str, alt: str) -> str:
    """Matplotlib's SVG for embedding in HTML: no prolog, CSS colours and an aria-label.

    Ids, which could clash, are left out; those of ``series`` become classes, with the text for the pointer.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="s(\d+)\|([^"]*)"', r'<g class="s s\1" data-tip="\2"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    names = {INK: "ink", FAINT: "faint", GRID: "grid"} | {hex_: f"c{at}" for at, hex_ in enumerate(SERIES)}
    for hex_, name in names.items():
        svg = svg.replace(hex_, f"var(--{name})")
    head, _, rest = svg.partition(">")
    head = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', head)
    return f'{head} role="img" aria-label="{Markup.escape(alt)}">{rest}'


def limits_of(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Axis limits: minimum and maximum, extended by a fraction ``margin`` of the range."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room
