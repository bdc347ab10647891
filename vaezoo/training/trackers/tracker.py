"""Base class of the trackers: opening, resuming and closing their runs."""

import json
import logging
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from vaezoo.config.errors import RunError, VaezooError
from vaezoo.config.reading import read_json
from vaezoo.runs.files import write_text

log = logging.getLogger(__name__)

REMEMBERED = "trackers.json"
"""File in the run folder with the run's id in each tracker."""

UNTRACKED = ("callbacks", "logger", "run_dir", "resume")
"""Settings that are not passed to trackers, because they do not affect what is trained."""


class Tracker(Logger):
    """Base of W&B and MLflow loggers.

    The tracker's run is opened when training starts or, if nothing is left to train, with the first metric, so that a
    refused resume leaves no trace in the tracker. It then gets the run's config, or, without one, the hyper-parameters
    that Lightning logs.
    """

    package: ClassVar[str]

    def __init__(self, *, save_dir: str, name: str | None, run_id: str | None) -> None:
        super().__init__()
        self._folder, self._title = Path(save_dir), name or Path(save_dir).name
        self._given = run_id
        self._settings: dict[str, Any] = {}
        self._has_config = False
        self._run: Any = None
        self._id: str | None = None

    @property
    def name(self) -> str:
        return self._title

    @property
    def version(self) -> str:
        return self._id or ""

    @property
    def save_dir(self) -> str:
        return str(self._folder)

    @property
    def run(self) -> Any:
        """The object of the tracker's library (``wandb.Run`` or ``MlflowClient``), opened on first use."""
        self.open()
        return self._run

    @rank_zero_only
    def open(self) -> None:
        """Start the tracker's run, or resume the one recorded in the run folder; RunError if that fails."""
        if self._run is not None:
            return
        known = self._given or self._remembered()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._run, self._id = self._start(known)
        except Exception as error:  # whatever a tracker's library raises
            reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
            remedy = "see its settings" if known is None else f"remove {self._folder / REMEMBERED} to start a new one"
            raise RunError(f"logger.{self.package} cannot open its run: {reason}; {remedy}") from error
        self._remember(self._id)
        self._write_settings(self._settings)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Log settings, unless ``use_config`` was called; they are held back until the run is open."""
        if self._has_config:
            return
        self._settings |= dict(params)
        if self._run is not None:
            self._write_settings(dict(params))

    def use_config(self, config: Mapping[str, Any]) -> None:
        """Log this config instead of the hyper-parameters that Lightning logs."""
        self._settings, self._has_config = {key: config[key] for key in config if key not in UNTRACKED}, True

    @rank_zero_only
    def close(self, status: str) -> None:
        """End the tracker's run as ``finished``, ``interrupted`` or ``failed``; an error becomes a warning."""
        if self._run is None:
            return
        try:
            self._end(status)
            log.info("%-11s %s", self.package, self.hint())
        except Exception as error:  # must not fail a training that succeeded
            warnings.warn(f"logger.{self.package} could not end its run: {' '.join(str(error).split())}", stacklevel=2)
        self._run = None

    @abstractmethod
    def log_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture (H, W, 3) uint8 as ``name`` at an optimiser step."""

    @abstractmethod
    def hint(self) -> str:
        """The shell command that uploads or shows the run."""

    @abstractmethod
    def _start(self, run_id: str | None) -> tuple[Any, str]: ...

    @abstractmethod
    def _write_settings(self, settings: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def _end(self, status: str) -> None: ...

    def _remembered(self) -> str | None:
        path = self._folder / REMEMBERED
        found = read_json(path).get(self.package) if path.is_file() else None
        if found is not None and not (isinstance(found, str) and re.fullmatch(r"[\w-]{1,128}", found)):
            raise RunError(f"{path} contains no run id for {self.package}; remove it to start a new run there")
        return found

    def _remember(self, run_id: str) -> None:
        path = self._folder / REMEMBERED
        known = read_json(path) if path.is_file() else {}
        if known.get(self.package) != run_id:
            write_text(path, json.dumps(known | {self.package: run_id}, indent=1) + "\n")


def open_all(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Open the run of each tracker with this config, leaving random states unchanged; RunError if that fails."""
    with isolate_rng():
        for logger in loggers:
            if isinstance(logger, Tracker):
                logger.use_config(config)
                logger.open()


@contextmanager
def closing(loggers: Iterable[Logger]) -> Iterator[None]:
    """Close the run of each tracker at the end of the block, as finished, interrupted or failed."""
    status = "finished"
    try:
        yield
    except BaseException as error:
        status = "interrupted" if isinstance(error, SystemExit | KeyboardInterrupt) else "failed"
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, Tracker):
                logger.close(status)


def fill(loggers: Iterable[Logger], settings: Mapping[str, Any], results: Mapping[str, float], step: int) -> None:
    """Log the settings to every logger, and the results too for TensorBoard's HParams table.

    Errors of a logger's library become warnings; OSError and vaezoo's own errors are raised.
    """
    for logger in loggers:
        try:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(dict(settings), dict(results), step)
            else:
                logger.log_hyperparams(dict(settings))
            logger.save()
        except (OSError, VaezooError):
            raise
        except Exception as error:  # must not fail a training that succeeded
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"{type(logger).__name__} rejected the settings: {reason[:300]}", stacklevel=2)
