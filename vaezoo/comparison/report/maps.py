"""Latent maps of the report: codes in a plane with axes of equal scale, or on a line, coloured by label."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.collections import EllipseCollection
from matplotlib.lines import Line2D

from vaezoo.comparison.report.drawing import FAINT, INK, WIDTH, Panel, chart, line, panel
from vaezoo.comparison.report.model_outputs import LINE, ModelOutputs
from vaezoo.figures import Labels, Prior, draw_prior, planes
from vaezoo.training.callbacks.latents import SIGMAS, axis_names


def latent_map(outputs: ModelOutputs, labels: Labels, title: str, name: str, out: Path) -> Panel:
    """Codes by label, with two standard deviations of posteriors as ellipses, and the prior.

    A Gaussian prior is a dashed ellipse of two standard deviations, and any other is shown by draws; without a prior,
    N(0, I) is drawn for reference.
    """
    if outputs.axes is None:
        return _line(outputs, labels, title, name, out)
    first, second = axis_names(outputs.axes)
    figure, axes = chart(title, _shorter(first), _shorter(second), width=WIDTH, height=WIDTH + 6)
    axes.set(xlim=outputs.plane[:2], ylim=outputs.plane[2:], aspect="equal")
    axes.grid(False)
    points, colours = outputs.axes.project(outputs.codes).numpy(), labels.colours()
    if len(outputs.outlines):
        shapes = planes.uncrowded(outputs.outlines, outputs.axes.project(outputs.codes))
        outlines = EllipseCollection(
            *shapes.T, units="xy", facecolors="none", edgecolors=colours[: len(shapes)], alpha=0.35, linewidths=0.6,
            offsets=points[: len(shapes)], offset_transform=axes.transData, rasterized=True,
        )  # fmt: skip
        axes.add_collection(outlines, autolim=False)
    axes.scatter(points[:, 0], points[:, 1], c=colours, s=7, linewidths=0, alpha=0.85, rasterized=True)
    key = _key(labels)
    if (prior := outputs.prior or _reference(outputs)) is not None:
        if prior.draws is None:
            draw_prior(axes, prior, INK, linewidth=1.4, zorder=4)
        else:
            draw_prior(axes, prior, FAINT, linewidth=0.8, zorder=1)  # they would hide the codes
        key.append(_prior_key(outputs, prior))
    if len(outputs.outlines):
        key.append(line(f"{SIGMAS}σ of posteriors", "-", FAINT, 0.6))
    return panel(figure, name, f"Latent map of {title}", out, key)


def _reference(outputs: ModelOutputs) -> Prior | None:
    """N(0, I), for a model with continuous codes but without a prior."""
    if outputs.axes is None or outputs.is_discrete:
        return None
    x, y = outputs.axes.project(torch.zeros_like(outputs.codes[0])).tolist()
    return Prior((x, y, 2.0 * SIGMAS, 2.0 * SIGMAS, 0.0))


def _prior_key(outputs: ModelOutputs, prior: Prior) -> Artist:
    """Legend entry of the prior."""
    if prior.draws is not None:
        return Line2D([], [], color=FAINT, linestyle="", marker="x", markersize=4, label="draws of the prior")
    return line(f"{SIGMAS}σ of the prior" if outputs.prior else f"{SIGMAS}σ of N(0, I)", "--", INK, 1.4)


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
    places = np.linspace(*outputs.plane[:2], LINE)
    normal = np.exp(-0.5 * places**2) / np.sqrt(2 * np.pi)
    density = normal if outputs.density is None else outputs.density
    axes.plot(places, density, color=FAINT, linestyle="--", linewidth=1.1)
    label = "N(0, I)" if outputs.density is None else "prior"
    return panel(figure, name, f"Latent line of {title}", out, [*_key(labels), line(label, "--", width=1.1)])


def _shorter(axis: str) -> str:
    return axis.replace(" of the variance", "").replace("principal axis", "axis")
