"""Measurements as tables: Markdown for files, rich for the terminal. It computes no new values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yardstick import start
from yardstick.contestants import CONTESTANTS
from yardstick.loads import LOADS
from yardstick.spreads import Measurement, Spread, failure, ratios, spread, values
from yardstick.targets import SECONDS, SPEED, START, Verdict

HOW = """Training images per second after a warm-up of one epoch: medians of the repeats, with the smallest and largest
value. Each measurement ran in its own process, in turns; ratios are within one turn. The speed is that of training
alone; *with validation* includes validation and, for vaezoo, the pictures drawn in it. vaezoo saves its last checkpoint
at most every ten seconds and draws pictures every 2,500 steps, which short measurements do not reach; the time that
pictures take in a whole run is in its summary.json. Peak memory is that of the process (on a GPU, the memory that torch
allocated there); *above imports* is the part that data and model added."""


@dataclass(frozen=True)
class Table:
    """A title, names of columns and rows of as many cells; what is not a number stands left."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int = 1

    def markdown(self) -> str:
        """As GitHub shows it."""
        rule = ["---" if position < self.left else "---:" for position in range(len(self.columns))]
        lines = [self.columns, tuple(rule), *self.rows]
        return f"## {self.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    def show(self) -> None:
        """On the terminal."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for position, column in enumerate(self.columns):
            table.add_column(column, justify="left" if position < self.left else "right")
        for row in self.rows:
            table.add_row(*row)
        console = Console()
        Console(width=console.width if console.is_terminal else 120).print(table, highlight=False)


def all_tables(measurements: Sequence[Measurement], verdicts: Sequence[Verdict], device: str) -> list[Table]:
    """One of each load that was asked for, one of start-up times, one of targets."""
    asked = {one["load"] for one in measurements}
    found = [of_load(measurements, name, device) for name in LOADS if name in asked]
    return [*found, *([of_start(measurements)] if START in asked else []), of_targets(verdicts)]


def of_load(measurements: Sequence[Measurement], load: str, device: str) -> Table:
    """Speed and memory of every contestant that was asked for."""
    memory = "cuda_allocated_bytes" if device == "cuda" else "process_bytes"
    above = "cuda_reserved_bytes" if device == "cuda" else "above_imports_bytes"
    asked = [
        name for name in CONTESTANTS if any((one["load"], one["contestant"]) == (load, name) for one in measurements)
    ]
    rows: list[tuple[str, ...]] = []
    for name in asked:
        reason = failure(measurements, load, name)
        if reason is not None:
            rows.append((name, reason, "", "", "", ""))
            continue

        def of(quantity: str, name: str = name) -> Spread | None:
            return spread(values(measurements, load, name, quantity).values())

        rows.append(
            (
                name,
                with_spread(of(SPEED), "{:,.0f}"),
                with_spread(of("images_per_second_with_validation"), "{:,.0f}", alone=True),
                with_spread(ratios(measurements, load, name, "bare", SPEED), "{:.2f}"),
                mebibytes(of(memory)),
                mebibytes(of(above)),
            )
        )
    columns = (
        "",
        "images/s",
        "with validation",
        "ratio to bare",
        "peak memory, MiB",
        "reserved" if device == "cuda" else "above imports",
    )
    return Table(f"{load}: {LOADS[load].title}", columns, rows)


def of_start(measurements: Sequence[Measurement]) -> Table:
    """Seconds of each command."""
    rows: list[tuple[str, ...]] = []
    for name, about in start.ABOUT.items():
        reason = failure(measurements, START, name)
        found = spread(values(measurements, START, name, SECONDS).values())
        rows.append((about, reason or with_spread(found, "{:.2f}")))
    return Table("Starting up", ("", "seconds"), rows)


def of_targets(verdicts: Sequence[Verdict]) -> Table:
    """What was to be reached, and whether it was."""
    rows: list[tuple[str, ...]] = [
        (one.what, one.bound, with_spread(one.measured, "{:.2f}"), one.outcome) for one in verdicts
    ]
    return Table("Targets", ("", "target", "measured", "outcome"), rows)


def with_spread(found: Spread | None, form: str, *, alone: bool = False) -> str:
    """A median with the least and largest value; ``alone`` leaves those out."""
    if found is None:
        return ""
    middle = form.format(found.median)
    if alone or found.repeats == 1:
        return middle
    return f"{middle} ({form.format(found.least)} to {form.format(found.largest)})"


def mebibytes(found: Spread | None) -> str:
    """A median in MiB."""
    return "" if found is None else f"{found.median / 2**20:,.0f}"


def machine_line(machine: dict[str, Any]) -> str:
    """What was measured on, in a sentence."""
    threads = f"{machine['threads']} thread{'' if machine['threads'] == 1 else 's'}"
    place = f"{machine['cpu']}, {machine['cores']} cores, {threads}"
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else ""
    count = machine.get("busy", 0)
    busy = f", with {count} other busy process{'' if count == 1 else 'es'}" if count else ""
    gpu = f"; {machine['gpu']}, CUDA {machine['cuda']}" if machine["gpu"] else ""
    versions = f"torch {machine['torch']}, lightning {machine['lightning']}, Python {machine['python']}"
    return f"{place}{memory}{gpu}{busy}; {versions}."
