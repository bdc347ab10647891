"""What a run costs: seconds and images. It knows no variant."""

import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback


class Cost(Callback):
    """Counts training images, and the seconds of training with and without validation; goes on after a resume.

    ``loader_wait_seconds`` are those of training in which this process waited for images to be decoded.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.training_seconds = 0.0
        self.loader_wait_seconds = 0.0
        self._waited = 0.0
        self._started = self._resumed = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images of all devices over the time of training alone, without validation and its pictures."""
        return self.images / self.training_seconds if self.training_seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._waited = _waited(trainer)
        self._started = self._resumed = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.images += len(batch[0]) * trainer.world_size

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._stop_clock(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._resumed = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_clock(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.training:
            self._stop_clock(trainer)

    def state_dict(self) -> dict[str, Any]:
        names = ("images", "seconds", "training_seconds", "loader_wait_seconds")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images = state_dict["images"]
        self.seconds, self.training_seconds = state_dict["seconds"], state_dict["training_seconds"]
        self.loader_wait_seconds = state_dict.get("loader_wait_seconds", 0.0)

    def _stop_clock(self, trainer: L.Trainer) -> None:
        """Book what has passed since the last time."""
        if trainer.strategy.root_device.type == "cuda":
            import torch

            torch.cuda.synchronize(trainer.strategy.root_device)
        now = time.perf_counter()
        self.seconds += now - self._started
        self.training_seconds += now - self._resumed
        self._started = self._resumed = now
        waited = _waited(trainer)
        self.loader_wait_seconds += waited - self._waited
        self._waited = waited


def _waited(trainer: L.Trainer) -> float:
    """Seconds that the training loader was waited for so far; 0 for one that does not count them."""
    return float(getattr(getattr(trainer, "train_dataloader", None), "waited", 0.0))
