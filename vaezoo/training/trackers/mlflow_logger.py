"""MLflow as a logger."""

import logging
import os
import re
import shlex
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from vaezoo.config import extras
from vaezoo.config.reading import flat
from vaezoo.training.trackers.tracker import Tracker

SQLITE = "sqlite:///"
LONGEST, BATCH = 500, 100
"""Maximum characters of a parameter value and parameters per call that all versions of MLflow accept."""


class MLFlowLogger(Tracker):
    """Logs to MLflow, by default offline in the run folder: metrics in mlflow.db (SQLite), figures in mlruns.

    A resumed run repeats the steps after its checkpoint, and MLflow cannot delete points: those that it already has are
    skipped. If other values replace them, as when a finished run trains for longer, MLflow keeps both.

    Args:
        save_dir: the run folder.
        name: of the run in MLflow; None takes the name of the run folder.
        experiment: name of the MLflow experiment, created if it does not exist.
        tags: of the run.
        run_id: use this MLflow run instead of a new one or the one recorded in the run folder.
        tracking_uri: a server or database; None uses ``mlflow.db`` in the run folder.
    """

    package = "mlflow"

    def __init__(
        self,
        *,
        save_dir: str,
        name: str | None = None,
        experiment: str = "vaezoo",
        tags: dict[str, str] | None = None,
        run_id: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__(save_dir=save_dir, name=name, run_id=run_id)
        self._experiment, self._tags, self._tracking_uri = experiment, dict(tags or {}), tracking_uri
        self._there: dict[str, Counter[tuple[int, float]]] = {}  # points of each metric that MLflow already has
        self._written: dict[str, str] = {}
        self._resumed = False
        if tracking_uri is None:
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        extras.need("mlflow", "trackers")
        for library in ("mlflow", "alembic"):  # they log every table that they create
            logging.getLogger(library).setLevel(logging.WARNING)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        client, now = self.run, int(time.time() * 1000)
        named = {re.sub(r"[^\w/. -]", "_", name): float(value) for name, value in metrics.items()}
        at = step or 0
        new = [Metric(name, value, now, at) for name, value in named.items() if not self._has(name, at, value)]
        client.log_batch(self._id, metrics=new)

    @rank_zero_only
    def log_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        client = self.run
        if not (self._resumed and self._shows(name, step)):
            client.log_image(self._id, pixels, key=name, step=step)

    def hint(self) -> str:
        return f"mlflow ui --backend-store-uri {shlex.quote(self._uri)}"

    @property
    def _uri(self) -> str:
        return self._tracking_uri or f"{SQLITE}{self._folder.absolute() / 'mlflow.db'}"

    def _start(self, run_id: str | None) -> tuple[Any, str]:
        from mlflow.tracking import MlflowClient

        if self._tracking_uri is None:
            self._keep_pictures_in_folder()
        client = MlflowClient(self._uri)
        if run_id is None:
            run = client.create_run(self._experiment_id(client), run_name=self._title, tags=self._tags)
            return client, run.info.run_id
        client.update_run(run_id, status="RUNNING")
        self._resumed, self._written = True, dict(client.get_run(run_id).data.params)
        return client, run_id

    def _experiment_id(self, client: Any) -> str:
        """The id of the experiment, which is created if it does not exist."""
        found = client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        here = self._pictures.as_uri() if self._uri.startswith(SQLITE) else None
        return str(client.create_experiment(self._experiment, artifact_location=here))

    @property
    def _pictures(self) -> Path:
        """The folder for figures beside a local database."""
        return Path(self._uri.removeprefix(SQLITE)).absolute().parent / "mlruns"

    def _keep_pictures_in_folder(self) -> None:
        """Update the figure paths in the database, because the run folder may have been moved."""
        database = self._folder / "mlflow.db"
        if not database.is_file():
            return
        with closing(sqlite3.connect(database)) as connection, connection:
            here = self._pictures.as_uri()
            connection.execute("UPDATE experiments SET artifact_location = ?", (here,))
            connection.execute("UPDATE runs SET artifact_uri = ? || '/' || run_uuid || '/artifacts'", (here,))

    def _write_settings(self, settings: Mapping[str, Any]) -> None:
        """Log settings by dotted names; changed ones as tags ``changed.NAME``, since MLflow parameters are final."""
        from mlflow.entities import Param, RunTag

        values = {re.sub(r"[^\w/. -]", "_", key): str(value)[:LONGEST] for key, value in flat(dict(settings))}
        new = [Param(key, value) for key, value in values.items() if key not in self._written]
        changed = {key: value for key, value in values.items() if self._written.get(key, value) != value}
        for start in range(0, len(new), BATCH):
            self._run.log_batch(self._id, params=new[start : start + BATCH])
        self._run.log_batch(self._id, tags=[RunTag(f"changed.{key}", value) for key, value in changed.items()])
        self._written = values | self._written

    def _end(self, status: str) -> None:
        ends = {"finished": "FINISHED", "interrupted": "KILLED"}
        self._run.set_terminated(self._id, ends.get(status, "FAILED"))

    def _has(self, name: str, step: int, value: float) -> bool:
        """Whether MLflow already has this point from before the resume; each stored point matches only once."""
        if not self._resumed:
            return False
        if name not in self._there:
            history = self._run.get_metric_history(self._id, name)
            self._there[name] = Counter((point.step, point.value) for point in history)
        self._there[name][step, value] -= 1
        return self._there[name][step, value] >= 0

    def _shows(self, name: str, step: int) -> bool:
        """Whether MLflow already has a figure with this name and step, judging by its file name."""
        wanted = re.compile(rf"images/{re.sub('/', '.', re.escape(name))}[^\w]step[^\w]{step}[^\w]")
        return any(wanted.match(file.path) for file in self._run.list_artifacts(self._id, "images"))
