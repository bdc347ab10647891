"""Loggers that write to the run folder, one write per log point, and append to their files after a resume."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from vaezoo.runs.files import read_rows, synchronise, write_rows

FLUSH_SECONDS = 2

EVENTS = "events.out.tfevents.*"
TABLE = "metrics.csv"

TAGS = {"epoch": "trainer/epoch"}
"""Metrics with another name in TensorBoard, which sorts by name: ``epoch`` would be its first chart."""


class TensorBoardLogger(loggers.TensorBoardLogger):
    """TensorBoard event file in the run folder, created with the first event.

    Events are flushed to disk every ``FLUSH_SECONDS`` and whenever a checkpoint is saved.
    """

    def __init__(self, *, save_dir: str) -> None:
        writer: dict[str, Any] = {"max_queue": 100, "flush_secs": FLUSH_SECONDS}
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False, **writer)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log all scalars of a step as one event."""
        named = {TAGS.get(name, name): float(value) for name, value in metrics.items()}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in named.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Write a row of the HParams table: settings, and already logged metrics whose last values it shows.

        Without metrics nothing is written, because a row cannot be changed later.
        """
        from torch.utils.tensorboard.summary import hparams  # slow to import, and only needed at the end of a run

        plain = {key: each if isinstance(each, bool | int | float) else str(each) for key, each in params.items()}
        for summary in hparams(plain, dict(metrics)) if metrics else ():
            self.experiment.file_writer.add_summary(summary, step)

    @rank_zero_only
    def save(self) -> None:
        """Flush events to disk. No hparams.yaml is written, because config.yaml contains the settings."""
        if self._experiment is not None:
            self._experiment.flush()

    def extent(self) -> dict[str, Any]:
        """Size of each event file in bytes, by name, after writing all events to disk; for ``Record``."""
        self.save()
        files = sorted(Path(self.save_dir).glob(EVENTS))
        if self._experiment is not None:
            synchronise(Path(self.experiment.file_writer.event_writer._file_name))
        return {"events": {file.name: file.stat().st_size for file in files}}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush but keep the file open: results after training go to the same event file."""
        self.save()


class CSVLogger(loggers.Logger):
    """``metrics.csv`` in the run folder: one row per call of ``log_metrics``, with its step.

    Each row is written at once, so that it survives a crash of the process. The file is rewritten only when a metric
    needs a new column. Rows are appended to an existing file.
    """

    def __init__(self, *, save_dir: str) -> None:
        super().__init__()
        self._path = Path(save_dir, TABLE)
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
        """The number of rows, after writing all of them to disk; for ``Record``."""
        if self._file is None:
            return {"rows": len(read_rows(self._path)[1]) if self._path.exists() else 0}
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"rows": self._rows}

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml contains the settings."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; the next row reopens it."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _open(self, names: Iterable[str]) -> TextIO:
        """Open the file for appending rows with these columns, rewriting it if columns are missing."""
        before, rows, torn = read_rows(self._path) if self._path.exists() else ([], [], False)
        self._names = sorted({*before, *names})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._names != before or torn:
            write_rows(self._path, self._names, rows)
        self._rows = len(rows)
        self._file = self._path.open("a", newline="", buffering=1)  # by lines
        return self._file
