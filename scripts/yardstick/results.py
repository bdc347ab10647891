"""Medians and ratios of measurements, the targets for them, and all of it as tables and a chart."""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from yardstick.loads import CONTESTANTS, LOADS, of_model
from yardstick.processes import COMMANDS

Measurement = dict[str, Any]
"""``load``, ``contestant``, ``repeat`` and the quantities found; or ``failed`` with the reason."""

KEYS = ("load", "contestant", "repeat", "failed", "optional")
SPEED = "images_per_second"
CPU_SPEED = "images_per_cpu_second"
"""Speed by processor time, which other busy processes change little."""
START = "start"
"""The name of start-up times among the loads."""


@dataclass(frozen=True)
class Summary:
    """The median of some numbers and their range."""

    median: float
    least: float
    largest: float
    repeats: int


def reference_of(measurements: Sequence[Measurement]) -> str:
    """The contestant that the others are compared with: the VAE if models of the zoo are measured."""
    return of_model("vae") if any(one["contestant"].startswith("model=") for one in measurements) else "bare"


def compared_speed(measurements: Sequence[Measurement]) -> str:
    """The quantity by which contestants are compared: models of the zoo by processor time, where it was measured."""
    of_models = reference_of(measurements) == of_model("vae")
    return CPU_SPEED if of_models and any(CPU_SPEED in one for one in measurements) else SPEED


def contestants_of(measurements: Sequence[Measurement], load: str) -> list[str]:
    """All that were asked for on a load, as in ``CONTESTANTS``, then models in the order of their measurements."""
    found = dict.fromkeys(one["contestant"] for one in measurements if one["load"] == load)
    return [*(name for name in CONTESTANTS if name in found), *(name for name in found if name not in CONTESTANTS)]


def of_contestant(measurements: Sequence[Measurement], load: str, contestant: str) -> list[Measurement]:
    """All measurements of a contestant on a load."""
    return [one for one in measurements if (one["load"], one["contestant"]) == (load, contestant)]


def failure(measurements: Sequence[Measurement], load: str, contestant: str) -> str | None:
    """Why all measurements of a contestant failed; None unless all did."""
    reasons = [one.get("failed") for one in of_contestant(measurements, load, contestant)]
    return reasons[0] if reasons and all(reasons) else None


def summarise(measurements: Sequence[Measurement], load: str, contestant: str, quantity: str) -> Summary | None:
    """A quantity of a contestant over all turns; None if it was never measured."""
    return _summary(_by_turn(measurements, load, contestant, quantity).values())


def compare(
    measurements: Sequence[Measurement],
    load: str,
    over: str,
    under: str,
    quantity: str,
    combine: Callable[[float, float], float] = operator.truediv,
) -> Summary | None:
    """One contestant's quantity over another's, each within a turn, so that slow minutes cancel out."""
    above, below = (_by_turn(measurements, load, name, quantity) for name in (over, under))
    return _summary(combine(above[turn], below[turn]) for turn in above if turn in below)


def _by_turn(measurements: Sequence[Measurement], load: str, contestant: str, quantity: str) -> dict[int, float]:
    mine = of_contestant(measurements, load, contestant)
    return {one["repeat"]: one[quantity] for one in mine if quantity in one}


def _summary(values: Iterable[float]) -> Summary | None:
    found = list(values)
    return Summary(median(found), min(found), max(found), len(found)) if found else None


def summaries(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """All quantities of each load and contestant, and the ratio to the bare loop."""
    entries = []
    for load, name in dict.fromkeys((one["load"], one["contestant"]) for one in measurements):
        entry: dict[str, Any] = {"load": load, "contestant": name}
        if reason := failure(measurements, load, name):
            entry["failed"] = reason
        else:
            quantities = {key for one in of_contestant(measurements, load, name) for key in one if key not in KEYS}
            entry |= {quantity: summarise(measurements, load, name, quantity) for quantity in sorted(quantities)}
            reference = reference_of(measurements)
            if name != reference:
                entry[f"ratio_to_{reference}"] = compare(
                    measurements, load, name, reference, compared_speed(measurements)
                )
        entries.append(entry)
    return entries


# targets -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A bound, by device, on how the medians of two contestants compare."""

    what: str
    load: str
    over: str
    under: str
    quantity: str
    sign: str
    bounds: dict[str, float]
    combine: Callable[[float, float], float] = operator.truediv


@dataclass(frozen=True)
class Verdict:
    """What was measured of a target; the outcome is reached, missed or not measured."""

    what: str
    bound: str
    measured: Summary | None
    outcome: str


def targets(device: str) -> list[Target]:
    """The targets of a device."""

    def speed(load: str, under: str, **bounds: float) -> Target:
        return Target(f"images/s, {load}, vaezoo / {under}", load, "vaezoo", under, SPEED, ">=", bounds)

    def start(what: str, over: str, under: str, bound: float, combine: Any = operator.truediv) -> Target:
        return Target(what, START, over, under, "seconds", "<=", {"cpu": bound, "cuda": bound}, combine)

    mnist, memory = "mnist-mlp", "cuda_allocated_bytes" if device == "cuda" else "process_bytes"
    peak = f"peak memory, {mnist}, vaezoo / bare"
    first_step = "first step of train.py - torch and lightning imported, s"
    quantiser = "cost of a step, mnist-vqvae, vaezoo / the same network without quantiser"
    all_targets = [
        speed(mnist, "bare", cpu=0.95, cuda=1.0),
        speed("digits-mlp", "bare", cpu=0.80, cuda=1.0),
        speed("sprites-conv", "bare", cpu=0.95, cuda=1.0),
        speed("cifar-resnet", "bare", cpu=0.95, cuda=1.0),
        speed(mnist, "bare-graph", cuda=0.80),
        speed(mnist, "textbook-2", cpu=1.8, cuda=10),
        speed(mnist, "pythae", cpu=1.3, cuda=10),
        Target(quantiser, "mnist-vqvae", "vaezoo-ae", "vaezoo", SPEED, "<=", {"cpu": 1.15, "cuda": 1.15}),
        speed("cifar-vqgan", "manual", cpu=1.0, cuda=1.0),
        Target(peak, mnist, "vaezoo", "bare", memory, "<=", {"cpu": 1.3, "cuda": 1.2}),
        start("`vaezoo list` / `import hydra`", "list", "import hydra", 3.0),
        start("`train.py --help` / `import hydra`", "help", "import hydra", 3.0),
        start(first_step, "first step", "imported", 2.0, operator.sub),
    ]
    return [target for target in all_targets if device in target.bounds]


COSTS = {"iwae": 5.0, "vamp_vae": 6.0}
"""How many times the VAE's step that of a model may cost, as it has five draws, or 500 pseudo-inputs."""
OTHER_COSTS = 2.5


def model_targets(measurements: Sequence[Measurement], device: str) -> list[Target]:
    """A bound on the cost of a step of each model that was measured."""
    vae, found = of_model("vae"), []
    for load, name in dict.fromkeys((one["load"], one["contestant"]) for one in measurements):
        if name != vae:
            bound = COSTS.get(name.removeprefix("model="), OTHER_COSTS)
            what = f"cost of a step, {load}, {name.removeprefix('model=')} / vae"
            found.append(Target(what, load, vae, name, compared_speed(measurements), "<=", {device: bound}))
    return found


def judge(measurements: Sequence[Measurement], device: str, *, quick: bool = False) -> list[Verdict]:
    """Whether the medians meet a device's targets; quick runs decide nothing."""
    verdicts = []
    of_models = reference_of(measurements) == of_model("vae")
    for one in model_targets(measurements, device) if of_models else targets(device):
        bound = one.bounds[device]
        found = compare(measurements, one.load, one.over, one.under, one.quantity, one.combine)
        if found is None or quick:
            outcome = "not measured"
        else:
            reached = found.median >= bound if one.sign == ">=" else found.median <= bound
            outcome = "reached" if reached else "missed"
        verdicts.append(Verdict(one.what, f"{one.sign} {bound:g}", found, outcome))
    return verdicts


# tables --------------------------------------------------------------------------------------------------------------

EXPLANATION = """\
Training images per second after a warm-up of one epoch: medians of the repeats, with the smallest and largest
value. Each measurement ran in its own process, in turns; ratios are within one turn. The speed is that of training
alone; *with validation* includes validation and, for vaezoo, the pictures drawn in it. vaezoo saves its last checkpoint
at most every ten seconds and draws pictures every 2,500 steps, which short measurements do not reach; the time that
pictures take in a whole run is in its summary.json. Peak memory is that of the process (on a GPU, the memory that torch
allocated there); *above imports* is the part that data and model added. The cost of a step of models is compared by
processor time, which other busy processes change little."""


@dataclass(frozen=True)
class Table:
    """A title, names of columns, and rows; the first column is text, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1), *self.rows]
        return f"## {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def show(self) -> None:
        """Print it on the terminal."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        Console(width=console.width if console.is_terminal else 120).print(table, highlight=False)


def tables(measurements: Sequence[Measurement], verdicts: Sequence[Verdict], device: str) -> list[Table]:
    """A table of each load that was asked for, one of start-up times, one of targets."""
    asked = {one["load"] for one in measurements}
    found = [load_table(measurements, load, device) for load in LOADS if load in asked]
    if START in asked:
        rows = []
        for name, (title, _) in COMMANDS.items():
            seconds = summarise(measurements, START, name, "seconds")
            rows.append((title, failure(measurements, START, name) or _text(seconds, "{:.2f}")))
        found.append(Table("Starting up", ("", "seconds"), rows))
    outcomes = [(one.what, one.bound, _text(one.measured, "{:.2f}"), one.outcome) for one in verdicts]
    return [*found, Table("Targets", ("", "target", "measured", "outcome"), outcomes)]


def load_table(measurements: Sequence[Measurement], load: str, device: str) -> Table:
    """Speed and memory of every contestant that was asked for."""
    if device == "cuda":
        peak, part, part_title = "cuda_allocated_bytes", "cuda_reserved_bytes", "reserved"
    else:
        peak, part, part_title = "process_bytes", "above_imports_bytes", "above imports"
    rows: list[tuple[str, ...]] = []
    reference = reference_of(measurements)
    for name in contestants_of(measurements, load):
        if reason := failure(measurements, load, name):
            rows.append((name, reason, "", "", "", ""))
        else:
            validated, *memory = (
                summarise(measurements, load, name, quantity) for quantity in (f"{SPEED}_with_validation", peak, part)
            )
            speed = _text(summarise(measurements, load, name, SPEED), "{:,.0f}")
            ratio = _text(compare(measurements, load, name, reference, compared_speed(measurements)), "{:.2f}")
            held = (f"{one.median / 2**20:,.0f}" if one else "" for one in memory)
            rows.append((name, speed, f"{validated.median:,.0f}" if validated else "", ratio, *held))
    columns = (
        "",
        "images/s",
        "with validation",
        f"ratio to {reference.removeprefix('model=')}",
        "peak memory, MiB",
        part_title,
    )
    return Table(f"{load}: {LOADS[load].title}", columns, rows)


def _text(found: Summary | None, form: str) -> str:
    """The median and, of several repeats, the range."""
    if found is None:
        return ""
    middle, least, largest = (form.format(value) for value in (found.median, found.least, found.largest))
    return middle if found.repeats == 1 else f"{middle} ({least} to {largest})"


def machine_line(machine: dict[str, Any]) -> str:
    """The machine in a sentence."""
    threads, busy = machine["threads"], machine.get("busy", 0)
    line = f"{machine['cpu']}, {machine['cores']} cores, {threads} thread{'' if threads == 1 else 's'}"
    line += f", {machine['memory_bytes'] / 2**30:.0f} GiB"
    line += f"; {machine['gpu']}, CUDA {machine['cuda']}" if machine["gpu"] else ""
    line += f", with {busy} other busy process{'' if busy == 1 else 'es'}" if busy else ""
    return f"{line}; torch {machine['torch']}, lightning {machine['lightning']}, Python {machine['python']}."


# chart ---------------------------------------------------------------------------------------------------------------


def draw(measurements: Sequence[Measurement], caption: str, folder: Path) -> None:
    """Write throughput.png and throughput.svg, with a panel of bars for each load; nothing if no load was measured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels: dict[str, dict[str, Summary]] = {}
    for load in LOADS:
        for name in contestants_of(measurements, load):
            if speed := summarise(measurements, load, name, SPEED):
                panels.setdefault(load, {})[name] = speed
    if not panels:
        return
    bars = [len(speeds) for speeds in panels.values()]
    figure = Figure(figsize=(9, 1.1 + sum(0.75 + 0.34 * count for count in bars)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=[count + 0.8 for count in bars])
    figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[union-attr,call-arg]
    for axes, (load, speeds) in zip(grid[:, 0], panels.items(), strict=True):
        found = list(speeds.values())
        drawn = axes.barh(
            list(speeds),
            [one.median for one in found],
            height=0.72,
            color=["#c2410c" if name in ("vaezoo", of_model("vae")) else "#94a3b8" for name in speeds],
            xerr=[[one.median - one.least for one in found], [one.largest - one.median for one in found]],
            error_kw={"ecolor": "#1e293b", "elinewidth": 1, "capsize": 2.5},
        )
        axes.bar_label(drawn, fmt="{:,.0f}", padding=5, fontsize=9)
        axes.set_xlim(0, 1.13 * max(one.largest for one in found))
        axes.invert_yaxis()
        axes.set_title(LOADS[load].title, loc="left", fontsize=11, pad=4)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.tick_params(axis="y", length=0, labelsize=10)
        axes.tick_params(axis="x", labelsize=8, labelcolor="#475569")
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("training images per second: median, minimum and maximum", fontsize=9, color="#475569")
    figure.supxlabel(fill(caption, 120), fontsize=8, color="#64748b")
    for kind in ("png", "svg"):
        figure.savefig(folder / f"throughput.{kind}", dpi=150)
