"""Which weights are kept: ``last.ckpt`` to go on from, ``best.ckpt`` to use. They know no variant."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vaezoo.checks import at_least


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt`` after every ``every_n_epochs`` epochs, every ``every_n_steps`` steps and at the end of training."""

    def __init__(self, *, dirpath: str, every_n_epochs: int = 1, every_n_steps: int = 1000) -> None:
        at_least(every_n_epochs, 1, "callbacks.last.every_n_epochs")
        at_least(every_n_steps, 1, "callbacks.last.every_n_steps")
        super().__init__(
            dirpath=dirpath,
            filename="last",
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0 and not trainer.is_last_batch:  # else validation is to come
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the present step, once."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the weights of the best validation, by the metric that the model names as its ``selection``."""

    def __init__(self, *, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",  # until the model is known
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        selection: Any = pl_module.selection
        self.monitor, self.mode = selection
        super().setup(trainer, pl_module, stage)
