"""How far a run's record has come, in checkpoints, so that it can be taken back to them. It knows no variant."""

import shutil
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


BEFORE = ".before"
"""What a record was before a run went on, until that is known to work."""


def put_aside(folder: Path) -> None:
    """Keep what ``take_back`` and the next steps change, for ``put_back``."""
    put_back(folder)  # of a process that was killed before its first step
    kept = [path for pattern in CHANGING for path in folder.glob(pattern) if path.is_file()]
    for path in kept:
        copy = folder / BEFORE / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def put_back(folder: Path) -> bool:
    """Bring back what was put aside; False if nothing was."""
    before = folder / BEFORE
    if not before.is_dir():
        return False
    for path in [path for pattern in CHANGING for path in folder.glob(pattern)]:
        path.unlink()
    for copy in [path for path in before.rglob("*") if path.is_file()]:
        copy.replace(folder / copy.relative_to(before))
    forget(folder)
    return True


def forget(folder: Path) -> None:
    """Remove what was put aside."""
    shutil.rmtree(folder / BEFORE, ignore_errors=True)


CHANGING = ("summary.json", "metrics.csv", "events.out.tfevents.*", "figures/*/step=*")
"""Files that a run which goes on removes or cuts."""


def take_back(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Bring a run folder's record to where it was when a checkpoint was saved: metrics, events and figures."""
    if "record" in checkpoint:  # else it is of an earlier version, and loggers purge by steps
        loggers.rewind(folder, checkpoint["record"])
    for figure in folder.glob("figures/*/step=*.*"):
        if figure.stem[5:].isdecimal() and int(figure.stem[5:]) > checkpoint["global_step"]:
            figure.unlink()
