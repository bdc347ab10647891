"""Loggers that write straight into the run folder and go on there after a resume. A log point costs one write each."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from vaezoo.files import read_rows, synchronise, write_rows

FLUSH_SECONDS = 2

EVENTS = "events.out.tfevents.*"
TABLE = "metrics.csv"


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Event file in the run folder itself. ``purge_step`` hides what an interrupted run wrote after its checkpoint.

    A thread of TensorBoard's writes the events, to the disk every ``FLUSH_SECONDS`` and whenever a checkpoint is saved.
    """

    def __init__(self, *, save_dir: str, purge_step: int | None = None) -> None:
        writer: dict[str, Any] = {"purge_step": purge_step, "max_queue": 100, "flush_secs": FLUSH_SECONDS}
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False, **writer)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """All scalars of a step as one event."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def save(self) -> None:
        """Bring events to disk. The settings lie in config.yaml, so no hparams.yaml is written."""
        self.experiment.flush()

    def extent(self) -> dict[str, Any]:
        """Bytes of each event file, all events so far among them, for ``rewind``."""
        self.save()
        files = sorted(Path(self.save_dir).glob(EVENTS))
        synchronise(Path(self.experiment.file_writer.event_writer._file_name))
        return {"events": {file.name: file.stat().st_size for file in files}}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the file open, as what follows training is written to it too: one event file for each process."""
        self.save()


class CSVLogger(loggers.Logger):
    """``metrics.csv`` in the run folder: one row for each time that something was logged, with its step.

    A row is in the file as soon as it is logged, whatever becomes of the process. The file stays open, and is rewritten
    only for names that it has no column for yet. An existing file is continued; rows at or after ``purge_step`` are
    dropped first.
    """

    def __init__(self, *, save_dir: str, purge_step: int | None = None) -> None:
        super().__init__()
        self._path = Path(save_dir, TABLE)
        self._purge_step = purge_step
        self._names: list[str] = []
        self._rows = 0
        self._file: TextIO | None = None

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {**metrics, "step": step}
        file = self._file or self._open(row)
        if not row.keys() <= set(self._names):
            self.finalize("more columns")
            file = self._open(row)
        csv.DictWriter(file, self._names).writerow(row)
        self._rows += 1

    def extent(self) -> dict[str, Any]:
        """How many rows the table has, all of them on the disk then, for ``rewind``."""
        if self._file is None:
            return {"rows": len(read_rows(self._path)[1]) if self._path.exists() else 0}
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"rows": self._rows}

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Settings lie in config.yaml."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; a further row opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self, names: Iterable[str]) -> TextIO:
        """Open the file for rows with these names, behind those that are to stay."""
        before, rows, torn = read_rows(self._path) if self._path.exists() else ([], [], False)
        keep = [row for row in rows if self._purge_step is None or int(row["step"]) < self._purge_step]
        self._names = sorted({*before, *names})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._names != before or len(keep) != len(rows) or torn:
            write_rows(self._path, self._names, keep)
        self._purge_step, self._rows = None, len(keep)
        self._file = self._path.open("a", newline="", buffering=1)  # by lines
        return self._file


def rewind(folder: Path, extent: Mapping[str, Any]) -> None:
    """Take back what was logged in a folder after the loggers gave ``extent``: each step is to be there once."""
    events: Mapping[str, int] = extent.get("events", {})
    for file in folder.glob(EVENTS) if events else ():
        if file.name not in events:
            file.unlink()
        elif file.stat().st_size > events[file.name]:
            os.truncate(file, events[file.name])
    table = folder / TABLE
    if "rows" in extent and table.exists():
        names, rows, torn = read_rows(table)
        if torn or len(rows) > extent["rows"]:
            write_rows(table, names, rows[: extent["rows"]])
