"""The cost of a run: seconds, images, and which other runs shared its machine."""

import os
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from vaezoo.distributed.batch_shares import images_in
from vaezoo.distributed.threads import RUNS_AT_ONCE

SAVED_FIELDS = (
    "images",
    "seconds",
    "training_seconds",
    "validation_seconds",
    "pictures_seconds",
    "loader_wait_seconds",
    "runs_at_once",
    "sessions",
)
"""Attributes that are saved in checkpoints."""


class Cost(Callback):
    """Counts training images, and the seconds spent on training, validation and figures, across resumes.

    ``seconds`` is the total of the three; figures drawn during validation count as figures only.
    ``loader_wait_seconds`` is the part of training spent waiting for the loader.

    Times are comparable only between runs that had a machine to themselves. So ``runs_at_once`` records how many runs
    a benchmark started in parallel on one device, and ``sessions`` when the run trained: one pair of Unix times in
    seconds, start and end, per process.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.training_seconds = 0.0
        self.validation_seconds = 0.0
        self.pictures_seconds = 0.0
        self.loader_wait_seconds = 0.0
        self.runs_at_once = _runs_at_once()
        self.sessions: list[list[float]] = []
        self._since = self._drawn = self._waited = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images of all devices per second of training, excluding validation and figures."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._drawn, self._waited = time.perf_counter(), _drawing_seconds(trainer), _waited(trainer)
        self.sessions.append([time.time()] * 2)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += images_in(batch, trainer.world_size)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.training_seconds += self._lap(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.validation_seconds += self._lap(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training_seconds += self._lap(trainer)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Add the time of the figures drawn after training has ended."""
        if stage == "fit":
            last = _drawing_seconds(trainer) - self._drawn
            self._drawn += last
            self.pictures_seconds += last
            self.seconds += last

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.training:
            self.training_seconds += self._lap(trainer)
        if self.state_key in checkpoint.get("callbacks", {}):  # ``state_dict`` was called before this hook
            checkpoint["callbacks"][self.state_key] = self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SAVED_FIELDS} | {
            "sessions": [list(pair) for pair in self.sessions]
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in SAVED_FIELDS:
            setattr(self, name, state_dict.get(name, getattr(self, name)))
        self.runs_at_once = max(self.runs_at_once, _runs_at_once())

    def _lap(self, trainer: L.Trainer) -> float:
        """Seconds since the last call, excluding those of figures, which are added to ``pictures_seconds``."""
        if trainer.strategy.root_device.type == "cuda":
            import torch

            torch.cuda.synchronize(trainer.strategy.root_device)
        now, drawn, waited = time.perf_counter(), _drawing_seconds(trainer), _waited(trainer)
        passed, pictures = now - self._since, drawn - self._drawn
        self.loader_wait_seconds += max(0.0, waited - self._waited)  # a new loader starts at 0
        self._since, self._drawn, self._waited = now, drawn, waited
        self.seconds += passed
        self.sessions[-1][1] = time.time()
        self.pictures_seconds += pictures
        return passed - pictures


def _runs_at_once() -> int:
    """How many runs the command that started this one runs in parallel on its device."""
    setting = os.environ.get(RUNS_AT_ONCE, "")
    return int(setting) if setting.isdecimal() else 1


def _drawing_seconds(trainer: L.Trainer) -> float:
    """Seconds that the figures of this process have taken so far."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return float(sum(getattr(callback, "seconds_of_drawing", 0.0) for callback in callbacks))


def _waited(trainer: L.Trainer) -> float:
    """Seconds spent waiting for the training loader so far; 0 for loaders that do not count them."""
    return float(getattr(getattr(trainer, "train_dataloader", None), "waited", 0.0))
