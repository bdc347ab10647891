"""A bar chart of speeds, with a panel for each load."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yardstick.contestants import CONTESTANTS
from yardstick.loads import LOADS
from yardstick.spreads import Measurement, Spread, spread, values
from yardstick.targets import SPEED

OURS, OTHERS = "#c2410c", "#94a3b8"


def draw(measurements: Sequence[Measurement], caption: str, folder: Path) -> None:
    """Write throughput.png and throughput.svg; nothing if no load was measured."""
    found = {load: of_load(measurements, load) for load in LOADS}
    found = {load: speeds for load, speeds in found.items() if speeds}
    if not found:
        return
    heights = [len(speeds) for speeds in found.values()]
    figure = Figure(figsize=(9, 1.1 + sum(0.75 + 0.34 * height for height in heights)), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=[height + 0.8 for height in heights])[:, 0]
    figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[union-attr,call-arg]
    for axes, (load, speeds) in zip(panels, found.items(), strict=True):
        panel(axes, LOADS[load].title, speeds)
    panels[-1].set_xlabel("training images per second: median, minimum and maximum", fontsize=9, color="#475569")
    figure.supxlabel(fill(caption, 120), fontsize=8, color="#64748b")
    for kind in ("png", "svg"):
        figure.savefig(folder / f"throughput.{kind}", dpi=150)


def of_load(measurements: Sequence[Measurement], load: str) -> dict[str, Spread]:
    """Speeds of those that were measured."""
    found = {name: spread(values(measurements, load, name, SPEED).values()) for name in CONTESTANTS}
    return {name: one for name, one in found.items() if one is not None}


def panel(axes: Axes, title: str, speeds: dict[str, Spread]) -> None:
    """One bar for each contestant, the number at its end."""
    names = list(speeds)
    medians = [speeds[name].median for name in names]
    errors = [
        [speeds[name].median - speeds[name].least for name in names],
        [speeds[name].largest - speeds[name].median for name in names],
    ]
    positions = list(range(len(names)))
    axes.barh(positions, medians, color=[OURS if name == "vaezoo" else OTHERS for name in names], height=0.72)
    axes.errorbar(medians, positions, xerr=errors, fmt="none", ecolor="#1e293b", elinewidth=1, capsize=2.5)
    most = max(one.largest for one in speeds.values())
    axes.set_yticks(positions, names)
    for position, name in enumerate(names):
        label = f"{speeds[name].median:,.0f}"
        axes.text(speeds[name].largest + 0.012 * most, position, label, va="center", fontsize=9)
    axes.set_xlim(0, 1.13 * most)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=11, pad=4)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.tick_params(axis="x", labelsize=8, labelcolor="#475569")
    axes.spines[["top", "right", "left"]].set_visible(False)
