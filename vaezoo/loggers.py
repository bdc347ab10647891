"""Lightning's loggers, writing straight into the run folder and going on there after a resume."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Event file in the run folder itself. ``purge_step`` hides what an interrupted run wrote after its checkpoint."""

    def __init__(self, *, save_dir: str, purge_step: int | None = None) -> None:
        super().__init__(save_dir=save_dir, name="", version="", default_hp_metric=False, purge_step=purge_step)

    @rank_zero_only
    def save(self) -> None:
        """Bring events to disk. The settings lie in config.yaml, so no hparams.yaml is written."""
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the file open, as what follows training is written to it too: one event file for each process."""
        self.save()


class CSVLogger(loggers.CSVLogger):
    """``metrics.csv`` in the run folder: one row for each time that something was logged, with its step.

    An existing file is continued; rows at or after ``purge_step`` are dropped first.
    """

    def __init__(self, *, save_dir: str, purge_step: int | None = None) -> None:
        super().__init__(save_dir=save_dir, name="", version="", flush_logs_every_n_steps=1)
        self._purge_step = purge_step
        self._writer: _Writer | None = None

    @property
    def experiment(self) -> Any:
        if self._writer is None:
            path = Path(self.save_dir, _Writer.NAME_METRICS_FILE)
            if self._purge_step is not None and path.exists():
                drop_rows(path, self._purge_step)
            self._writer = _Writer(self.save_dir)
        return self._writer

    @property
    def save_dir(self) -> str:
        return self._save_dir

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.experiment.log_metrics(metrics, step)
        self.save()

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Settings lie in config.yaml."""

    @rank_zero_only
    def save(self) -> None:
        self.experiment.save()


class _Writer(_ExperimentWriter):
    """Lightning's writer, which would delete an earlier file."""

    def _check_log_dir_exists(self) -> None:
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


def drop_rows(path: Path, step: int) -> None:
    """Rewrite a metrics file without the rows at or after ``step``, in one move."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["step"]) < step]
        names = reader.fieldnames or []
    aside = path.with_suffix(".csv.new")
    with aside.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
    aside.replace(path)
