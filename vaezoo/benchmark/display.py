"""Progress of a benchmark: a bar with the remaining time on terminals, and a line per completed run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@dataclass
class Stage:
    """Progress of one stage over ``total`` runs: ``ended`` runs are complete; ``done`` includes fractions of runs."""

    title: str
    noun: str
    total: int
    ended: int = 0
    done: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _start: tuple[float, float] | None = field(default=None, init=False)

    def begin(self, ended: int, done: float) -> None:
        """Start the clock; progress made before does not count towards the speed."""
        self.ended, self.done, self._start = ended, done, (self.clock(), done)

    def seconds_left(self) -> float | None:
        """Estimated seconds left at the speed so far; None without progress."""
        if self.done >= self.total:
            return 0.0
        if self._start is None or self.done <= self._start[1]:
            return None
        since, before = self._start
        return (self.clock() - since) / (self.done - before) * (self.total - self.done)


class Display:
    """Shows the progress of all stages; a context manager."""

    def __init__(self, stages: list[Stage], console: Console | None = None) -> None:
        self.stages = stages
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=sum(stage.total for stage in stages) or 1, left="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, stage: Stage, done: float) -> None:
        """Update the bar; ``done`` is the stage's progress in runs."""
        stage.done = done
        description = f"{stage.title} {stage.ended} of {stage.total}"
        completed = sum(each.done for each in self.stages)
        self._progress.update(self._bar, description=description, completed=completed, left=time_left(self.stages))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)

    def print_ended(self, stage: Stage, name: str, seconds: float, *, failed: bool) -> None:
        """Print that a run has completed or failed a stage."""
        outcome = "FAILED after" if failed else "in"
        left = time_left(self.stages)
        self.say(
            f"[{stage.ended}/{stage.total}] {stage.title} {name} {outcome} {duration(seconds)}"
            + (f", {left}" if left else "")
        )


def time_left(stages: list[Stage]) -> str:
    """Remaining time in words, with the stages that cannot be estimated yet; empty if unknown."""
    known = {stage.noun: stage.seconds_left() for stage in stages}
    seconds = sum(left for left in known.values() if left is not None)
    unknown = [f"the {noun}" for noun, left in known.items() if left is None]
    if not seconds:
        return ""
    return f"about {duration(seconds)} left" + (f", then {' and '.join(unknown)}" if unknown else "")


def duration(seconds: float) -> str:
    """Format seconds as 41 s, 12 min or 3 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
