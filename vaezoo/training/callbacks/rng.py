"""The random state in checkpoints, so that a resumed run draws the same numbers as an uninterrupted one."""

from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vaezoo.training.rng import random_states, restore


class RandomState(Callback):
    """Saves torch's random states, and restores them before the first batch of a resumed run, on every rank.

    They are equal on all ranks (see ``vaezoo.distributed.batch_shares``), so that a run may resume with another number
    of ranks. They are not restored when the checkpoint is read, because creating loaders and loggers draws numbers
    after that.
    """

    def __init__(self) -> None:
        self._saved: list[Tensor] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_states"] = [random_states(trainer.strategy.root_device)]

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = next(iter(checkpoint.get("random_states", [])), None)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        saved, self._saved = self._saved, None
        if saved is not None:
            restore(saved, trainer.strategy.root_device)
