"""Charts: rate-distortion plane, cost, KL per latent dimension, training curves, step sizes of interpolations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from vaezoo.comparison import SeedGroup, sweeps
from vaezoo.comparison.report.drawing import (
    FAINT,
    Panel,
    chart,
    colour,
    key_of,
    limits_of,
    line,
    marker,
    panel,
    series,
)
from vaezoo.metrics.catalogue import CATALOGUE, RFID

DOTTED = (0, (2, 4))
"""Line style of equal ELBO."""


@dataclass
class Curves:
    """Training curves of one run: steps and values by (stage, quantity), such as ("val", "recon"), in nats."""

    series: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    clock: tuple[np.ndarray, np.ndarray] | None = None
    """Steps, and the seconds since the start at which they were logged, if known."""


def _bits(nats: Any) -> Any:
    return nats / math.log(2)


def _nats(bits: Any) -> Any:
    return bits * math.log(2)


MOST_NAMED = 12
"""Models whose names are written into a chart; of more, the names are in the key and under the pointer."""
LONGEST_NAME = 24
"""Characters of a name beside its point; longer ones would leave the axes, and are in the key only."""


def rate_distortion(
    seed_groups: Sequence[SeedGroup], indices: Sequence[int], name: str, title: str, out: Path
) -> Panel:
    """Rate (KL, of discrete codes that of equally likely indices) against distortion (recon) of each run.

    A model without a rate is a horizontal line. The upper axis has the rate in bits, as codebooks are measured.

    The means of seed groups that differ in one setting are joined. If levels of a code refine each other, a line of
    dots is what the first level gives alone, the first two, and so on.
    """
    figure, axes = chart(title, "rate: KL, nats per image", "distortion: recon, nats per image", width=480, height=380)
    centres: dict[str, tuple[float, float]] = {}
    for seed_group, index in zip(seed_groups, indices, strict=True):
        recon, kl = seed_group.values("recon"), seed_group.values("kl")
        shared = [seed for seed in recon if seed in kl]
        if shared:
            points = {seed: (kl[seed], recon[seed]) for seed in shared}
            _points(axes, points, seed_group.label, index, ("KL", "recon"))
            centres[seed_group.label] = tuple(np.array(list(points.values())).mean(0))
            for record in seed_group.records:
                axes.plot(
                    *record.by_depth().T, marker=".", color=colour(index), linewidth=1.2, alpha=0.75,
                    gid=series(index, seed_group.label),
                )  # fmt: skip
        elif recon:
            level = float(np.mean(list(recon.values())))
            gid = series(index, f"{seed_group.label}, without a rate: recon {level:.4g}")
            axes.axhline(level, color=colour(index), linestyle="--", linewidth=1.2, gid=gid)
            if len(seed_groups) <= MOST_NAMED:
                axes.annotate(
                    f"{seed_group.label}: has no rate", (1, level), xycoords=("axes fraction", "data"), xytext=(0, 3),
                    textcoords="offset points", ha="right", color=colour(index), gid=gid,
                )  # fmt: skip
    axes.margins(0.1)
    bits = axes.secondary_xaxis("top", functions=(_bits, _nats))
    bits.set_xlabel("bits", labelpad=2)
    bits.tick_params(labelsize=8)
    _join(axes, seed_groups, centres)
    _equal_elbo(axes, centres)
    key = [*_key(seed_groups, indices), line("equal ELBO", DOTTED)]
    return panel(figure, name, title, out, key)


def _points(
    axes: Axes, points: Mapping[int, tuple[float, float]], label: str, index: int, names: tuple[str, str]
) -> None:
    """One mark for each seed, with the values of both axes, called ``names``, for the pointer."""
    for seed, (x, y) in points.items():
        tip = f"{label}, seed {seed}: {names[0]} {x:,.4g}, {names[1]} {y:,.4g}"
        axes.plot(
            x, y, linestyle="", marker=marker(index), color=colour(index), markersize=7, alpha=0.75, clip_on=False,
            gid=series(index, tip),
        )  # fmt: skip


def _key(seed_groups: Sequence[SeedGroup], indices: Sequence[int]) -> list[Artist]:
    return key_of({index: seed_group.label for index, seed_group in zip(indices, seed_groups, strict=True)})


def _join(axes: Axes, seed_groups: Sequence[SeedGroup], centres: dict[str, tuple[float, float]]) -> None:
    """Join the means of sweeps and label each seed group; those of a sweep by the swept setting."""
    names = {label: label for label in centres}
    for setting, row in sweeps(seed_groups):
        points = [(seed_group, centres[seed_group.label]) for seed_group in row if seed_group.label in centres]
        if len(points) < 2:
            continue
        axes.plot(*zip(*(point for _, point in points), strict=True), color=FAINT, linewidth=1, zorder=1)
        names |= {
            seed_group.label: f"{setting}={seed_group.settings['model.' + setting]:g}" for seed_group, _ in points
        }
    for label, point in centres.items():
        leftish = point[0] < np.mean(axes.get_xlim())
        offset = (8 if leftish else -8, 9 if names[label] != label else -14)
        side = "left" if leftish else "right"
        if len(names[label]) > LONGEST_NAME or len(centres) > MOST_NAMED:
            continue
        axes.annotate(names[label], point, xytext=offset, textcoords="offset points", color=FAINT, ha=side)


def _equal_elbo(axes: Axes, centres: dict[str, tuple[float, float]]) -> None:
    """Draw the line of equal ELBO through each seed group's mean; of many, only through the best."""
    if not centres:
        return
    through = sorted(centres.values(), key=sum)[: 1 if len(centres) > MOST_NAMED else None]
    x_limits, y_limits = axes.get_xlim(), axes.get_ylim()
    reach = (x_limits[1] - x_limits[0]) + (y_limits[1] - y_limits[0])
    for x, y in through:
        axes.plot(
            [x - reach, x + reach], [y + reach, y - reach], color=FAINT, linewidth=0.8, linestyle=DOTTED, zorder=0
        )
    axes.set(xlim=(max(0.0, x_limits[0]), x_limits[1]), ylim=y_limits)


def cost(
    seed_groups: Sequence[SeedGroup], indices: Sequence[int], against: str, quality: str, name: str, out: Path
) -> Panel:
    """The metric ``quality`` against the metric ``against``, one mark per run."""
    y, x = CATALOGUE[quality], CATALOGUE[against]
    title = f"{metric_label(quality)} {y.arrow} by {metric_label(against)}"
    figure, axes = chart(title, _with_unit(against), _with_unit(quality))
    largest, smallest = 0.0, np.inf
    drawn: dict[int, str] = {}
    for seed_group, index in zip(seed_groups, indices, strict=True):
        costs, values = seed_group.values(against), seed_group.values(quality)
        shared = [seed for seed in costs if seed in values]
        if shared:
            drawn[index] = seed_group.label
        points = {seed: (costs[seed], values[seed]) for seed in shared}
        _points(axes, points, seed_group.label, index, (metric_label(against), metric_label(quality)))
        paid = [cost for cost, _ in points.values()]
        largest, smallest = max(largest, *paid, 0.0), min(smallest, *paid, np.inf)
    if x.better == "lower" and largest > 20 * smallest > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.10g}")  # matplotlib's own is mathematical text, which the style leaves out
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, largest * 1.08 or 1)
        axes.locator_params(axis="x", nbins=5)
    return panel(figure, name, title, out, key_of(drawn))


def _with_unit(name: str) -> str:
    unit = CATALOGUE[name].unit
    return f"{metric_label(name)}, {unit}" if unit else metric_label(name)


def metric_label(name: str) -> str:
    """A metric's name as shown in tables and charts."""
    short = {"elbo": "ELBO", "kl": "KL", "psnr": "PSNR", "mse": "MSE", "ssim": "SSIM", "iw_bound": "IW bound"}
    short |= {"elbo_given_label": "ELBO given the label", "iw_bound_given_label": "IW bound given the label"}
    short |= {"elbo_prior": "ELBO with a fitted prior", "prior_rate": "rate under a fitted prior"}
    short |= {"iw_ess": "IW effective draws", "mig": "MIG", "sap": "SAP", "seconds": "training time"}
    short |= {"peak_memory_bytes": "peak memory", "flops_per_image": "FLOP per image", "code_bits": "code size"}
    short |= {"auroc_neg_elbo": "AUROC −ELBO", "auroc_mse": "AUROC MSE", "auroc_kl": "AUROC KL"}
    short |= {"auroc_knn_distance": "AUROC kNN distance", "auroc_mahalanobis": "AUROC Mahalanobis distance"}
    short |= {"probe_accuracy_100": "probe accuracy, 100 labels"}
    short |= {
        "knn_accuracy": "kNN accuracy",
        "ms_ssim": "MS-SSIM",
        "lpips": "LPIPS",
        "perceptual_lite0": "Lite0 distance",
        RFID: "rFID",
    }
    text = short.get(name, name.replace("_", " "))
    for word, better in (
        (" fd", " FD"),
        (" kd", " KD"),
        ("dci", "DCI"),
        ("auroc", "AUROC"),
        (" kl", " KL"),
        (" vae", "-VAE"),
    ):
        text = text.replace(word, better)
    return text


def kl_of_dimensions(kl: np.ndarray, index: int, title: str, most: float, name: str, out: Path) -> Panel:
    """Bars of the sorted KL per dimension, (D,) in nats, on an axis up to ``most``."""
    figure, axes = chart(title, "latent dimension, the largest first", "KL, nats", height=200)
    ordered = np.sort(kl)[::-1]
    bars = axes.bar(np.arange(1, len(ordered) + 1), ordered, color=colour(index), width=0.75)
    for bar, value in zip(bars, ordered, strict=True):
        bar.set_gid(series(index, f"{value:.3g} nats"))
    axes.set(ylim=(0, most * 1.05), xlim=(0.3, len(ordered) + 0.7))
    axes.grid(axis="x", visible=False)
    axes.locator_params(axis="x", integer=True)
    return replace(panel(figure, name, f"KL of each latent dimension of {title}", out), index=index)


def paces(rows: Sequence[tuple[int, str, np.ndarray]], title: str, name: str, out: Path) -> Panel:
    """Step sizes along an interpolation, relative to their mean; rows are (index, label, ratios (S,))."""
    figure, axes = chart(title, "t: from one image to the other", "step over mean step", height=230)
    for index, label, pace in rows:
        t = (np.arange(len(pace)) + 0.5) / len(pace)
        tip = series(index, f"{label}: largest step {pace.max():.3g} times the mean")
        axes.plot(t, pace, color=colour(index), linewidth=1.5, gid=tip)
    axes.axhline(1, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, max(1.2, *(float(pace.max()) for *_, pace in rows)) * 1.05))
    return panel(figure, name, title, out, key_of({index: label for index, label, _ in rows}, lines=True))


def curves(
    runs: Sequence[tuple[int, str, Curves]], quantity: str, title: str, name: str, out: Path, *, by_clock: bool
) -> Panel | None:
    """One quantity over training, solid for validation and dashed for training images; None if no run has it."""
    figure, axes = chart(title, "seconds since the start" if by_clock else "optimiser steps", "nats per image")
    ends: list[float] = []
    drawn: dict[int, str] = {}
    for index, label, run in runs:
        for stage, style, width in (("train", "--", 0.8), ("val", "-", 1.6)):
            steps, values = run.series.get((stage, quantity), (np.empty(0), np.empty(0)))
            if by_clock:
                steps = np.empty(0) if run.clock is None else np.interp(steps, *run.clock)
            if not len(steps):
                continue
            tip = f"{label}, {'validation' if stage == 'val' else 'training'}: {float(values[-1]):,.4g} at the end"
            axes.plot(
                steps, values, color=colour(index), linestyle=style, linewidth=width, alpha=0.9, gid=series(index, tip)
            )
            drawn[index] = label
            ends += [float(values[-1]), float(np.quantile(values, 0.1)), float(np.quantile(values, 0.85))]
    if not ends:
        return None
    axes.set_ylim(limits_of(ends))
    axes.set_xlim(left=0)
    key = key_of(drawn, lines=True)
    return panel(
        figure, name, title, out, [*key, line("validation", "-", width=1.6), line("training", "--", width=0.8)]
    )
