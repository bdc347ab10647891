"""What trackers have in common: when their run is opened and closed, and its id, by which it is resumed."""

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
"""The file in a run folder that has the run's id in each tracker."""

UNTRACKED = ("callbacks", "logger", "run_dir", "resume")
"""Settings that no tracker is given: they do not change what is trained."""


class Tracker(Logger):
    """What both trackers share: when their run is opened and closed, and its id.

    The run is opened when training starts or, where nothing is left to train, with the first number. So a resume that
    is refused leaves no trace in a tracker. It gets the run's config then, or without one what Lightning logs.
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
        """The run of the tracker's own library, opened if it is not: ``wandb.Run`` or ``MlflowClient``."""
        self.open()
        return self._run

    @rank_zero_only
    def open(self) -> None:
        """Start the tracker's run, or continue the one that this run folder remembers; RunError if that fails."""
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
        """Settings, nested or not, unless the config is known. Before the run is open, they wait."""
        if self._has_config:
            return
        self._settings |= dict(params)
        if self._run is not None:
            self._write_settings(dict(params))

    def use_config(self, config: Mapping[str, Any]) -> None:
        """Take a run's config in place of what Lightning logs of a model."""
        self._settings, self._has_config = {key: config[key] for key in config if key not in UNTRACKED}, True

    @rank_zero_only
    def close(self, status: str) -> None:
        """End the tracker's run as ``finished``, ``interrupted`` or ``failed``; a failure to do so is a warning."""
        if self._run is None:
            return
        try:
            self._end(status)
            log.info("%-11s %s", self.package, self.hint())
        except Exception as error:  # the training is good all the same
            warnings.warn(f"logger.{self.package} could not end its run: {' '.join(str(error).split())}", stacklevel=2)
        self._run = None

    @abstractmethod
    def log_picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture (H, W, 3) uint8 as ``name`` at an optimiser step."""

    @abstractmethod
    def hint(self) -> str:
        """The command that uploads or shows the run."""

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
    """Open the run of each tracker among the loggers with the run's config; training does not notice.

    RunError if one cannot be opened, before the first step.
    """
    with isolate_rng():
        for logger in loggers:
            if isinstance(logger, Tracker):
                logger.use_config(config)
                logger.open()


@contextmanager
def closing(loggers: Iterable[Logger]) -> Iterator[None]:
    """Close the run of each tracker among the loggers with how the block ended."""
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
    """Give every logger the settings, and TensorBoard's also what they led to; a failure is a warning.

    Of Lightning's loggers, TensorBoard's alone takes results beside settings: the others have them as metrics.
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
        except Exception as error:  # the training is good all the same
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"{type(logger).__name__} rejected the settings: {reason[:300]}", stacklevel=2)
