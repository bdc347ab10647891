"""Which weights are kept: ``last.ckpt`` to go on from, ``best.ckpt`` to use. They know no variant."""

import time
from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from weakref import proxy

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from vaezoo.checks import at_least


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt`` after every ``every_n_epochs`` epochs, every ``every_n_steps`` steps and at the end of training.

    Between two of them lie ``min_seconds`` at least, so that small models, whose epochs are short, train rather than
    write. What an interruption costs is that and the rest of an epoch, or of so many steps, at most; a resumed run ends
    the same wherever it starts from.
    """

    def __init__(
        self, *, dirpath: str, every_n_epochs: int = 1, every_n_steps: int = 1000, min_seconds: float = 10.0
    ) -> None:
        at_least(every_n_epochs, 1, "callbacks.last.every_n_epochs")
        at_least(every_n_steps, 1, "callbacks.last.every_n_steps")
        at_least(min_seconds, 0, "callbacks.last.min_seconds")
        super().__init__(
            dirpath=dirpath,
            filename="last",
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_steps, self.min_seconds = every_n_steps, min_seconds
        self._saved_at = float("-inf")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0 and not trainer.is_last_batch:  # else validation is to come
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (trainer.current_epoch + 1) % self._every_n_epochs == 0:
            self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the present step, once."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
            self._saved_at = time.monotonic()

    def _save_if_due(self, trainer: Trainer) -> None:
        due = time.monotonic() - self._saved_at >= self.min_seconds
        if trainer.world_size > 1:  # all take part in saving, and their clocks differ
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due:
            self.save(trainer)


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the weights of the best validation, by the metric that the model names as its ``selection``.

    They are kept in memory until ``last.ckpt`` is written or training ends in any way, and written then: early in a
    training almost every validation is the best so far.
    """

    def __init__(self, *, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",  # until the model is known
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._held: tuple[str, dict[str, Any]] | None = None
        self._holds = self._taking = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        selection: Any = pl_module.selection
        self.monitor, self.mode = selection
        self._holds = any(isinstance(callback, LastCheckpoint) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Nothing is saved within an epoch, which Lightning would look into after every batch."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.write(trainer)  # that checkpoint will say that this one is there

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._held is not None and trainer.is_global_zero:  # others may not get here, so none is waited for
            trainer.strategy.checkpoint_io.save_checkpoint(self._held[1], self._held[0])

    def write(self, trainer: Trainer) -> None:
        """Bring what is held to disk, in all processes together."""
        if self._held is None or self._taking:
            return
        path, checkpoint = self._held
        trainer.strategy.save_checkpoint(checkpoint, path)
        trainer.strategy.barrier("BestCheckpoint.write")
        self._held = None
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self._taking = True
        try:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(self.save_weights_only)
            self._held = (filepath, copied(checkpoint))
        finally:
            self._taking = False
        self._last_global_step_saved, self._last_checkpoint_saved = trainer.global_step, filepath
        if not self._holds:
            self.write(trainer)


def copied(node: Any) -> Any:
    """A copy of plain values and tensors, on the CPU, that training does not change."""
    if isinstance(node, Tensor):
        return node.detach().to("cpu", copy=True)
    if isinstance(node, Mapping):
        return {key: copied(value) for key, value in node.items()}
    if isinstance(node, list):
        return [copied(value) for value in node]
    return deepcopy(node)
