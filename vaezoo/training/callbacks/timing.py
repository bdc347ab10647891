"""What a run costs: seconds and images, and which other runs its machine was shared with."""

import os
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from vaezoo.distributed.batch_shares import images_in
from vaezoo.distributed.threads import RUNS_AT_ONCE

KEPT = (
    "images",
    "seconds",
    "training_seconds",
    "validation_seconds",
    "pictures_seconds",
    "loader_wait_seconds",
    "runs_at_once",
    "sessions",
)
"""What goes into checkpoints."""


class Cost(Callback):
    """Counts training images, and the seconds of training, of validation and of pictures; continues after a resume.

    ``seconds`` are those of all three; a picture that is drawn within validation counts as a picture alone.
    ``loader_wait_seconds`` are those of training in which this process waited for images to be decoded.

    Seconds compare models only where each had the machine to itself, so that is recorded too: ``runs_at_once`` is how
    many runs a benchmark started side by side on one device, and ``sessions`` are the times between which this run
    trained, one pair of Unix seconds for each process that trained it.
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
        """Training images of all devices over the time of training alone, without validation and pictures."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._drawn, self._waited = time.perf_counter(), _drawn(trainer), _waited(trainer)
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
        """Add the last pictures, which come when training has ended."""
        if stage == "fit":
            last = _drawn(trainer) - self._drawn
            self._drawn += last
            self.pictures_seconds += last
            self.seconds += last

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.training:
            self.training_seconds += self._lap(trainer)
        if self.state_key in checkpoint.get("callbacks", {}):  # it was asked for its state before this
            checkpoint["callbacks"][self.state_key] = self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in KEPT} | {"sessions": [list(pair) for pair in self.sessions]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, state_dict.get(name, getattr(self, name)))
        self.runs_at_once = max(self.runs_at_once, _runs_at_once())

    def _lap(self, trainer: L.Trainer) -> float:
        """Seconds since the last time without those of pictures, which are booked here."""
        if trainer.strategy.root_device.type == "cuda":
            import torch

            torch.cuda.synchronize(trainer.strategy.root_device)
        now, drawn, waited = time.perf_counter(), _drawn(trainer), _waited(trainer)
        passed, pictures = now - self._since, drawn - self._drawn
        self.loader_wait_seconds += max(0.0, waited - self._waited)  # a loader made anew counts from 0
        self._since, self._drawn, self._waited = now, drawn, waited
        self.seconds += passed
        self.sessions[-1][1] = time.time()
        self.pictures_seconds += pictures
        return passed - pictures


def _runs_at_once() -> int:
    """How many runs the command that started this one runs at a time on its device."""
    said = os.environ.get(RUNS_AT_ONCE, "")
    return int(said) if said.isdecimal() else 1


def _drawn(trainer: L.Trainer) -> float:
    """Seconds that all pictures of this process have taken so far; other callbacks do not count any."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return float(sum(getattr(callback, "seconds_of_drawing", 0.0) for callback in callbacks))


def _waited(trainer: L.Trainer) -> float:
    """Seconds that the training loader was waited for so far; 0 for one that does not count them."""
    return float(getattr(getattr(trainer, "train_dataloader", None), "waited", 0.0))
