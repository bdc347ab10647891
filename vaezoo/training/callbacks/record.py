"""The length of a run's logs, saved in checkpoints, and their truncation when training resumes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from vaezoo.runs.files import read_rows, write_rows
from vaezoo.training.callbacks.checkpoints import BestCheckpoint
from vaezoo.training.loggers import EVENTS, TABLE


class Record(Callback):
    """Saves in each checkpoint how much the loggers with a method ``extent`` had written."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        held = any(isinstance(callback, BestCheckpoint) and callback.taking_snapshot for callback in callbacks)
        if trainer.is_global_zero and not held:  # training never resumes from best.ckpt
            telling = [logger for logger in trainer.loggers if hasattr(logger, "extent")]
            checkpoint["record"] = {name: value for logger in telling for name, value in logger.extent().items()}


class Rewind:
    """Truncates a run's metrics, events and figures to those that existed when a checkpoint was saved.

    The files to truncate are determined at once, so that files which this process creates later are not affected.
    Nothing changes before ``apply``; if that is interrupted, the next resume completes it.
    """

    def __init__(self, run_dir: Path, checkpoint: Mapping[str, Any]) -> None:
        self.run_dir = run_dir
        self.step: int = checkpoint["global_step"]
        extent = checkpoint["record"]
        self._rows: int | None = extent.get("rows")
        self._sizes: Mapping[str, int] = extent.get("events", {})
        self._events = set(run_dir.glob(EVENTS))
        events = [file for file in self._events if "events" in extent and file.name not in self._sizes]
        self._surplus = [*events, *(file for file in run_dir.glob("figures/*/step=*.*") if _step(file) > self.step)]

    def apply(self) -> None:
        """Truncate metrics and event files, and remove later event files and figures."""
        for file in self._surplus:
            file.unlink(missing_ok=True)
        for file in self._events.difference(self._surplus):
            if file.stat().st_size > self._sizes.get(file.name, file.stat().st_size):
                os.truncate(file, self._sizes[file.name])
        table = self.run_dir / TABLE
        if self._rows is not None and table.exists():
            names, rows, torn = read_rows(table)
            if torn or len(rows) > self._rows:
                write_rows(table, names, rows[: self._rows])

    def abandon(self) -> None:
        """Remove the event files that loggers created since, after a resume was refused."""
        for file in set(self.run_dir.glob(EVENTS)) - self._events:
            file.unlink()


def _step(figure: Path) -> int:
    """The optimiser step in a figure's file name, -1 for other files."""
    digits = figure.stem.removeprefix("step=")
    return int(digits) if digits.isdecimal() else -1
