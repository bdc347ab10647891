"""The random states of all devices in checkpoints, so that a resumed run draws what it would have drawn."""

from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vaezoo.random_state import random_states, restore


class RandomState(Callback):
    """Keeps torch's random states of every process; puts them back before the first batch of a resumed run.

    Not when the checkpoint is read: making loaders and loggers draws numbers after that.
    """

    def __init__(self) -> None:
        self._saved: list[list[Tensor]] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        mine = random_states(trainer.strategy.root_device)
        states: list[Any] = [mine]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, mine)
        checkpoint["random_states"] = states

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint.get("random_states")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        saved, self._saved = self._saved, None
        if saved is not None and len(saved) == trainer.world_size:
            restore(saved[trainer.global_rank], trainer.strategy.root_device)
