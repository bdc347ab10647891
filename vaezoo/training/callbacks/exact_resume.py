"""Fixes for what Lightning's loops get wrong when training resumes from a checkpoint."""

from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback, WeightAveraging

from vaezoo.training import lightning_internals as internals


class Resuming(Callback):
    """Makes a resumed training end with the same result as an uninterrupted one.

    - With ``max_steps``, Lightning takes a finished epoch for an unfinished one and counts it twice.
    - If a schedule asked for the number of steps, Lightning creates the loader before it restores the loader's state.
    - Lightning updates schedules that watch a metric, such as ReduceLROnPlateau, after the checkpoints of an epoch, and
      not at all in a resumed epoch; here they are updated before.
    - If nothing is left to train, Lightning skips the end of training.
    """

    def __init__(self) -> None:
        self._moved_at = -1
        self._trained = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        internals.count_epochs_once(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = True
        internals.restore_loaders(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loop: Any = trainer.fit_loop
        if trainer.lr_scheduler_configs and internals.is_last_of_epoch(loop.epoch_loop):
            if self._moved_at != trainer.global_step:
                loop.epoch_loop.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            self._moved_at = trainer.global_step
            internals.skip_plateau_schedulers(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._trained:
            return
        epochs: Any = trainer.fit_loop.epoch_progress.current
        epochs.completed = epochs.processed
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, WeightAveraging):
                callback.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"moved_at": self._moved_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._moved_at = state_dict["moved_at"]
