"""What a run costs: seconds and images. It knows no variant."""

import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from vaezoo.shares import images_in

KEPT = (
    "images",
    "seconds",
    "training_seconds",
    "validation_seconds",
    "pictures_seconds",
    "loader_wait_seconds",
)
"""What goes into checkpoints."""


class Cost(Callback):
    """Counts training images, and the seconds of training, of validation and of pictures; goes on after a resume.

    ``seconds`` are those of all three; a picture that is drawn within validation counts as a picture alone.
    ``loader_wait_seconds`` are those of training in which this process waited for images to be decoded.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.training_seconds = 0.0
        self.validation_seconds = 0.0
        self.pictures_seconds = 0.0
        self.loader_wait_seconds = 0.0
        self._since = self._drawn = self._waited = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images of all devices over the time of training alone, without validation and pictures."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._drawn, self._waited = time.perf_counter(), _drawn(trainer), _waited(trainer)

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
        return {name: getattr(self, name) for name in KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, state_dict.get(name, 0.0))

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
        self.pictures_seconds += pictures
        return passed - pictures


def _drawn(trainer: L.Trainer) -> float:
    """Seconds that all pictures of this process have taken so far; other callbacks do not count any."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return float(sum(getattr(callback, "seconds_of_drawing", 0.0) for callback in callbacks))


def _waited(trainer: L.Trainer) -> float:
    """Seconds that the training loader was waited for so far; 0 for one that does not count them."""
    return float(getattr(getattr(trainer, "train_dataloader", None), "waited", 0.0))
