"""How far a run's record has come, in checkpoints, so that it can be taken back to them. It knows no variant."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from vaezoo import loggers
from vaezoo.callbacks.checkpoints import BestCheckpoint


class Record(Callback):
    """Keeps what loggers had written when a checkpoint was saved (``extent``), as far as they tell."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        held = any(isinstance(callback, BestCheckpoint) and callback.taking for callback in callbacks)
        if trainer.is_global_zero and not held:  # no training goes on from those
            telling = [logger for logger in trainer.loggers if hasattr(logger, "extent")]
            checkpoint["record"] = {name: value for logger in telling for name, value in logger.extent().items()}


def take_back(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Bring a run folder's record to where it was when a checkpoint was saved: metrics, events and figures."""
    if "record" in checkpoint:  # else it is of an earlier version, and loggers purge by steps
        loggers.rewind(folder, checkpoint["record"])
    for figure in folder.glob("figures/*/step=*.png"):
        if figure.stem[5:].isdecimal() and int(figure.stem[5:]) > checkpoint["global_step"]:
            figure.unlink()
