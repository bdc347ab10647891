"""Loggers that write straight into the run folder and go on there after a resume. A log point costs one write each."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

FLUSH_SECONDS = 2


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
        self._path = Path(save_dir, "metrics.csv")
        self._purge_step = purge_step
        self._names: list[str] = []
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
        if self._names != before or len(keep) != len(rows) or torn:
            write_rows(self._path, self._names, keep)
        self._purge_step = None
        self._file = self._path.open("a", newline="", buffering=1)  # by lines
        return self._file


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """Names of a metrics file's columns, its rows, and whether it ends in a torn one, as a full disk leaves it."""
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows, whole != text


def write_rows(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    """Write a metrics file in one move: whoever reads it, or is killed meanwhile, has the old one or the new."""
    aside = path.with_suffix(".csv.new")
    with aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    aside.replace(path)
