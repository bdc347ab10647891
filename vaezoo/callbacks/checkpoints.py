"""Which weights are kept: ``last.ckpt`` to go on from, ``best.ckpt`` to use. They know no variant."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt`` after every ``every_n_epochs`` epochs and at the end of training."""

    def __init__(self, *, dirpath: str, every_n_epochs: int = 1) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="last",
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
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
