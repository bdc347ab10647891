"""Latent maps of the report: codes in a plane with axes of equal scale, or on a line, coloured by label."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.collections import EllipseCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from vaezoo.comparison.report.drawing import FAINT, INK, WIDTH, Panel, chart, line, panel
from vaezoo.comparison.report.model_outputs import ModelOutputs
from vaezoo.figures import Labels, planes
from vaezoo.training.callbacks.latents import SIGMAS, axis_names


def latent_map(outputs: ModelOutputs, labels: Labels, title: str, name: str, out: Path) -> Panel:
    """Codes by label, with two standard deviations of N(0, I) as a circle and of posteriors as ellipses."""
    if outputs.axes is None:
        return _line(outputs, labels, title, name, out)
    first, second = axis_names(outputs.axes)
    figure, axes = chart(title, _shorter(first), _shorter(second), width=WIDTH, height=WIDTH + 6)
    axes.set(xlim=outputs.plane[:2], ylim=outputs.plane[2:], aspect="equal")
    axes.grid(False)
    points, colours = outputs.axes.project(outputs.codes).numpy(), labels.colours()
    if outputs.kl is not None:
        shapes = planes.uncrowded(outputs.outlines, outputs.axes.project(outputs.codes))
        outlines = EllipseCollection(
            *shapes.T, units="xy", facecolors="none", edgecolors=colours[: len(shapes)], alpha=0.35, linewidths=0.6,
            offsets=points[: len(shapes)], offset_transform=axes.transData, rasterized=True,
        )  # fmt: skip
        axes.add_collection(outlines, autolim=False)
    axes.scatter(points[:, 0], points[:, 1], c=colours, s=7, linewidths=0, alpha=0.85, rasterized=True)
    x, y = outputs.axes.project(torch.zeros_like(outputs.codes[0])).tolist()
    axes.add_patch(Circle((x, y), SIGMAS, fill=False, edgecolor=INK, linestyle="--", linewidth=1.4, zorder=4))
    key = [*_key(labels), line(f"{SIGMAS}σ of N(0, I)", "--", INK, 1.4)]
    if outputs.kl is not None:
        key.append(line(f"{SIGMAS}σ of posteriors", "-", FAINT, 0.6))
    return panel(figure, name, f"Latent map of {title}", out, key)


def _key(labels: Labels) -> list[Artist]:
    """Legend entries of label values: all if there are few, else the smallest and the largest."""
    palette = labels.palette()
    chosen = labels.known if labels.few else labels.known[:: max(1, len(labels.known) - 1)]
    return [
        Line2D([], [], color=palette[value], linestyle="", marker="o", markersize=4, label=labels.name(value))
        for value in chosen
    ]


def _line(outputs: ModelOutputs, labels: Labels, title: str, name: str, out: Path) -> Panel:
    figure, axes = chart(title, "z0", "density of codes")
    codes, palette = outputs.codes[:, 0].numpy(), labels.palette() if labels.few else {}
    edges = np.linspace(*outputs.plane[:2], 61)
    groups = [codes[labels.values == value] for value in palette] or [codes]
    axes.hist(groups, edges.tolist(), stacked=True, density=True, color=list(palette.values()) or [FAINT])
    normal = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    axes.plot(edges, normal, color=FAINT, linestyle="--", linewidth=1.1)
    return panel(figure, name, f"Latent line of {title}", out, [*_key(labels), line("N(0, I)", "--", width=1.1)])


def _shorter(axis: str) -> str:
    return axis.replace(" of the variance", "").replace("principal axis", "axis")
