"""Loggers that write straight into the run folder, one write for each log point, and continue there after a resume."""

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
"""What TensorBoard calls a metric otherwise: it sorts by name, and the epoch would be its first chart."""


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Event file in the run folder itself, made when the first event is logged.

    A thread of TensorBoard's writes the events, to the disk every ``FLUSH_SECONDS`` and whenever a checkpoint is saved.
    """

    def __init__(self, *, save_dir: str) -> None:
        writer: dict[str, Any] = {"max_queue": 100, "flush_secs": FLUSH_SECONDS}
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False, **writer)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """All scalars of a step as one event."""
        named = {TAGS.get(name, name): float(value) for name, value in metrics.items()}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in named.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """A row of the HParams table: settings, and the metrics, already logged, whose last values it shows.

        Nothing is written without metrics, since a row cannot be changed later.
        """
        from torch.utils.tensorboard.summary import hparams  # for the end of a run

        plain = {key: each if isinstance(each, bool | int | float) else str(each) for key, each in params.items()}
        for summary in hparams(plain, dict(metrics)) if metrics else ():
            self.experiment.file_writer.add_summary(summary, step)

    @rank_zero_only
    def save(self) -> None:
        """Bring events to disk. The settings lie in config.yaml, so no hparams.yaml is written."""
        if self._experiment is not None:
            self._experiment.flush()

    def extent(self) -> dict[str, Any]:
        """Bytes of each event file, all events so far among them."""
        self.save()
        files = sorted(Path(self.save_dir).glob(EVENTS))
        if self._experiment is not None:
            synchronise(Path(self.experiment.file_writer.event_writer._file_name))
        return {"events": {file.name: file.stat().st_size for file in files}}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the file open, as what follows training is written to it too: one event file for each process."""
        self.save()


class CSVLogger(loggers.Logger):
    """``metrics.csv`` in the run folder: one row for each time that something was logged, with its step.

    A row is in the file as soon as it is logged, whatever becomes of the process. The file stays open, and is rewritten
    only for names that it has no column for yet. An existing file is continued.
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
        """How many rows the table has, all of them on the disk then."""
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
        """Open the file for rows with these names, behind those that are there."""
        before, rows, torn = read_rows(self._path) if self._path.exists() else ([], [], False)
        self._names = sorted({*before, *names})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._names != before or torn:
            write_rows(self._path, self._names, rows)
        self._rows = len(rows)
        self._file = self._path.open("a", newline="", buffering=1)  # by lines
        return self._file
