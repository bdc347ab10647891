"""Figures of latent spaces: KL over training, codes in a plane or on a line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from vaezoo.figures.canvas import (
    FAINT,
    LABEL,
    MARGIN,
    draw_text,
    heading,
    heading_height,
    heading_width,
    page,
    panel,
    text_width,
    titled,
)
from vaezoo.figures.planes import Limits

PANEL = 480
"""Side of a square panel in pixels."""
AXIS_LEFT, AXIS_BOTTOM = 66, 50
"""Pixels for tick labels and an axis label."""
MOST_CLASSES = 12
"""With more values, a colour bar replaces the legend."""
PLAIN = "#5b6b82"
"""Colour of points without a label."""


@dataclass
class Labels:
    """Class of each point (N,), -1 if unknown, names of the classes, and a title for the legend."""

    values: np.ndarray
    names: Sequence[str | float] = ()
    title: str = ""

    @property
    def known(self) -> list[int]:
        """The classes that occur, sorted."""
        return sorted(set(self.values[self.values >= 0].tolist()))

    @property
    def few(self) -> bool:
        """Whether there are few enough classes for a legend."""
        return 0 < len(self.known) <= MOST_CLASSES

    def name(self, value: int) -> str:
        """Name of a class."""
        name = self.names[value] if value < len(self.names) else value
        return name if isinstance(name, str) else f"{name:g}"

    def number(self, value: int) -> float:
        """Position of a class on a colour scale: the number that it stands for, else the class itself."""
        name = self.names[value] if value < len(self.names) else value
        return value if isinstance(name, str) else float(name)

    def scale(self) -> ScalarMappable:
        """Colour scale for more classes than fit in a legend."""
        numbers = [self.number(value) for value in self.known]
        return ScalarMappable(Normalize(min(numbers), max(numbers)), "viridis")

    def palette(self) -> dict[int, str]:
        """Colour by class: distinct if there are few, else on a scale."""
        if self.few:
            table = colormaps["tab10" if len(self.known) <= 10 else "Paired"]
            return {value: to_hex(table(index)) for index, value in enumerate(self.known)}
        if not self.known:
            return {}
        scale = self.scale()
        colours = scale.to_rgba(np.array([self.number(value) for value in self.known]))
        return {value: to_hex(colour) for value, colour in zip(self.known, colours.tolist(), strict=True)}

    def colours(self) -> list[str]:
        """The colour of each point."""
        palette = self.palette()
        return [palette.get(value, PLAIN) for value in self.values.tolist()]


@dataclass
class Prior:
    """The prior in a plane.

    ``ellipse`` is that of a Gaussian: x and y of its centre, width, height and angle in degrees; ``draws`` (N, 2) stand
    for any other prior.
    """

    ellipse: tuple[float, float, float, float, float] | None = None
    draws: np.ndarray | None = None


@dataclass
class Plane:
    """Points (N, 2) in a plane; ``decoded`` (H, W, 3) is the decoder's output over the same square.

    ``ellipses`` are the posteriors of the first M points: width, height and angle in degrees, (M, 3).
    """

    points: np.ndarray
    limits: Limits
    axis_names: tuple[str, str]
    labels: Labels
    prior: Prior | None = None
    decoded: np.ndarray | None = None
    note: str = ""
    density: np.ndarray | None = None
    """Density of the prior along a one-dimensional axis from left to right, (K,), if there is a prior."""
    ellipses: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))


def latent_map(plane: Plane, subject: str = "") -> Figure:
    """Codes in a plane, coloured by label, with posteriors and prior if there are any, and the decoded plane."""
    top = heading_height(plane.note) + 6
    panels = 1 if plane.decoded is None else 2
    key = _key_width(plane.labels)
    right = AXIS_LEFT + panels * PANEL + (panels - 1) * 24
    title = titled("Codes of validation images" + " and the decoded plane" * (panels - 1), subject)
    figure = page(max(right + key + MARGIN, heading_width(title, plane.note)), top + PANEL + AXIS_BOTTOM)
    heading(figure, title, plane.note)
    axes = _square(figure, AXIS_LEFT, top, plane)
    axes.set_ylabel(plane.axis_names[1], size=LABEL)
    axes.yaxis.set_label_coords((20 - AXIS_LEFT) / PANEL, 0.5)  # on the page, however wide the tick labels are
    _draw_distributions(axes, plane)
    x, y = plane.points.T
    axes.scatter(x, y, c=plane.labels.colours(), s=12, linewidths=0.3, edgecolors="white", zorder=3)
    if plane.decoded is not None:
        second = _square(figure, AXIS_LEFT + PANEL + 24, top, plane)
        second.tick_params(labelleft=False)
        second.imshow(plane.decoded, extent=plane.limits, aspect="auto")
        if plane.prior is not None:
            draw_prior(second, plane.prior, "#ffd27f")
    if key:
        _draw_key(figure, right + 16, top, plane.labels)
    return figure


def latent_line(plane: Plane, subject: str = "") -> Figure:
    """Histogram of one-dimensional codes (N, 1) by label, above the decoded images along the same axis."""
    top, key = heading_height(plane.note) + 6, _key_width(plane.labels)
    strip = 0 if plane.decoded is None else round(2 * PANEL * plane.decoded.shape[0] / plane.decoded.shape[1])
    right = AXIS_LEFT + 2 * PANEL
    title = titled("Codes of validation images" + (" and the decoded line" if strip else ""), subject)
    width = max(right + key + MARGIN, heading_width(title, plane.note))
    figure = page(width, top + PANEL // 2 + 8 + strip + AXIS_BOTTOM)
    heading(figure, title, plane.note)
    axes = panel(figure, AXIS_LEFT, top, 2 * PANEL, PANEL // 2)
    _histogram(axes, plane)
    if plane.density is not None:
        axes.plot(
            np.linspace(*plane.limits[:2], len(plane.density)), plane.density, color=FAINT, linestyle="--", linewidth=1
        )
    axes.set(xlim=plane.limits[:2])
    axes.set_ylabel("density of codes", size=LABEL)
    axes.tick_params(labelsize=LABEL - 0.5, labelbottom=False)
    below = panel(figure, AXIS_LEFT, top + PANEL // 2 + 8, 2 * PANEL, strip)
    if plane.decoded is not None:
        below.imshow(plane.decoded, extent=(*plane.limits[:2], 0, 1), aspect="auto")
    below.set(xlim=plane.limits[:2], yticks=[])
    below.set_xlabel(plane.axis_names[0], size=LABEL)
    below.tick_params(labelsize=LABEL - 0.5)
    if key:
        _draw_key(figure, right + 16, top, plane.labels)
    return figure


def latent_kl(
    steps: Sequence[int], kl: np.ndarray, active: Sequence[int], subject: str = "", dimensions: int | None = None
) -> Figure:
    """KL per latent dimension, or level of a hierarchy, over training, and the number of active ``dimensions``.

    ``steps`` (T,), ``kl`` (T, D) in nats, or (T, L) for levels of a code of ``dimensions``, ``active`` (T,). Each
    column extends from the previous step to its own; dimensions are sorted by their last KL, largest on
    top, and levels from the top down.
    """
    dimensions = kl.shape[1] if dimensions is None else dimensions
    of_levels = kl.shape[1] != dimensions
    order = np.arange(kl.shape[1]) if of_levels else np.argsort(-kl[-1], kind="stable")
    count, width, height = len(order), 620, min(420, max(150, 20 * kl.shape[1]))
    top = heading_height("note") + 6
    title = titled(f"KL of each {'level' if of_levels else 'latent dimension'}", subject)
    now = f"now {kl[-1].sum():.2f} nats in total, {active[-1]} of {dimensions} dimensions active"
    note = f"mean over validation images; {now}"
    figure = page(max(AXIS_LEFT + width + 90, heading_width(title, note)), top + height + 24 + 90 + AXIS_BOTTOM)
    heading(figure, title, note)
    axes = panel(figure, AXIS_LEFT, top, width, height)
    edges = np.concatenate([[min(0, steps[0] - 1)], steps]).astype(float)
    most = max(float(kl.max()), 0.1)  # with a smaller maximum, the colours would exaggerate noise
    picture = axes.pcolorfast(edges, np.arange(count + 1), kl[:, order].T, cmap="magma_r", vmin=0, vmax=most)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(count, 0))
    shown = range(0, count, -(-count // 20))
    axes.set_yticks(
        [row + 0.5 for row in shown], [f"level {row + 1}" if of_levels else f"z{order[row]}" for row in shown]
    )
    axes.tick_params(labelsize=LABEL - 0.5, labelbottom=False)
    bar = figure.colorbar(picture, cax=panel(figure, AXIS_LEFT + width + 14, top, 14, height))
    bar.set_label("nats", size=LABEL)
    bar.ax.tick_params(labelsize=LABEL - 0.5)
    _active_line(panel(figure, AXIS_LEFT, top + height + 24, width, 90), edges, active, dimensions)
    return figure


def _active_line(axes: Axes, edges: np.ndarray, active: Sequence[int], count: int) -> None:
    axes.stairs(active, edges, color="#7a2a7a", linewidth=1.6, baseline=None)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, count * 1.08))
    axes.set_yticks(sorted({0, count // 2, count}))
    axes.set_xlabel("optimiser steps", size=LABEL)
    axes.set_ylabel("active", size=LABEL)
    axes.tick_params(labelsize=LABEL - 0.5)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def _square(figure: Figure, left: float, top: float, plane: Plane) -> Axes:
    axes = panel(figure, left, top, PANEL, PANEL)
    axes.set(xlim=plane.limits[:2], ylim=plane.limits[2:])
    axes.set_xlabel(plane.axis_names[0], size=LABEL)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=LABEL - 0.5)
    return axes


def _draw_distributions(axes: Axes, plane: Plane) -> None:
    if plane.prior is not None:
        draw_prior(axes, plane.prior, FAINT)
    if not len(plane.ellipses):
        return
    shapes, colours = plane.ellipses, plane.labels.colours()[: len(plane.ellipses)]
    places: dict[str, Any] = {"offsets": plane.points[: len(shapes)], "offset_transform": axes.transData}
    for alpha, face, edge in ((0.15, colours, "none"), (0.7, "none", colours)):
        axes.add_collection(
            EllipseCollection(
                *shapes.T, units="xy", facecolors=face, edgecolors=edge, alpha=alpha, linewidths=0.7, zorder=2, **places
            ),
            autolim=False,
        )


def draw_prior(axes: Axes, prior: Prior, colour: str, linewidth: float = 1.0, zorder: float = 2) -> None:
    """Draw the outline of a Gaussian prior, dashed, or draws of any other prior as crosses."""
    if prior.ellipse is not None:
        x, y, width, height, angle = prior.ellipse
        axes.add_patch(
            Ellipse(
                (x, y),
                width,
                height,
                angle=angle,
                fill=False,
                edgecolor=colour,
                linestyle="--",
                linewidth=linewidth,
                zorder=zorder,
            )
        )
    if prior.draws is not None:
        axes.scatter(
            prior.draws[:, 0],
            prior.draws[:, 1],
            marker="x",
            color=colour,
            s=8,
            linewidths=0.7 * linewidth,
            zorder=zorder,
        )


def _histogram(axes: Axes, plane: Plane) -> None:
    codes, values = plane.points[:, 0], plane.labels.values
    edges = np.linspace(*plane.limits[:2], 81)
    groups: list[tuple[np.ndarray, str]] = [(codes, PLAIN)]
    if plane.labels.few:
        palette = plane.labels.palette() | {-1: PLAIN}
        groups = [(codes[values == value], colour) for value, colour in palette.items()]
    heights = [np.histogram(part, edges)[0] / (len(codes) * (edges[1] - edges[0])) for part, _ in groups]
    below = np.zeros(len(edges) - 1)
    for height, (_, colour) in zip(heights, groups, strict=True):
        axes.stairs(below + height, edges, baseline=below, fill=True, color=colour)
        below = below + height


def _key_width(labels: Labels) -> float:
    if not labels.known:
        return 0
    if not labels.few:
        return 90
    names = [labels.title, *(labels.name(value) for value in labels.known)]
    return 16 + 18 + max(text_width(name, LABEL) for name in names)


def _draw_key(figure: Figure, left: float, top: float, labels: Labels) -> None:
    """Draw a legend, or a colour bar if there are many classes, with its upper left corner at (left, top)."""
    if labels.few:
        draw_text(figure, left, top, labels.title)
        axes = panel(figure, left, top + 20, 12, 20 * len(labels.known))
        count = len(labels.known)
        axes.scatter([0] * count, range(count), c=list(labels.palette().values()), s=40)
        axes.set(ylim=(len(labels.known) - 0.5, -0.5))
        axes.set_axis_off()
        for row, value in enumerate(labels.known):
            draw_text(figure, left + 18, top + 30 + 20 * row, labels.name(value), vertical="center")
        return
    bar = figure.colorbar(labels.scale(), cax=panel(figure, left, top, 14, PANEL // 2))
    bar.set_label(labels.title, size=LABEL)
    bar.ax.tick_params(labelsize=LABEL - 0.5)
