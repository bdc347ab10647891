"""Callbacks that measure training from inside Lightning: the duration of epochs, and when the first step was done."""

import json
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Stopwatch(L.Callback):
    """Seconds of training and of validation after the first epoch, which is warm-up; written to ``out`` at the end.

    It hears of epochs and validations alone, so that it does not matter how many steps go in one of Lightning's.
    Logging and checkpoints count as training, pictures that are drawn in validation as validation.
    """

    def __init__(self, out: str) -> None:
        self.out = out
        self.training_seconds = self.validation_seconds = 0.0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            self._since = _now()

    def on_validation_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.training_seconds += self._lap()

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.validation_seconds += self._lap()

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.training_seconds += self._lap()
        seconds = {"seconds": self.training_seconds, "validation_seconds": self.validation_seconds}
        Path(self.out).write_text(json.dumps(seconds))
        self._since = None

    def _lap(self) -> float:
        """Seconds since the last call; none during warm-up."""
        if self._since is None:
            return 0.0
        before, self._since = self._since, _now()
        return self._since - before


class FirstStep(L.Callback):
    """Writes the time of day after the first step of any optimiser to ``out``, and ends the process."""

    def __init__(self, out: str) -> None:
        def note(*_: Any) -> None:
            Path(out).write_text(json.dumps(time.time()))
            os._exit(0)

        register_optimizer_step_post_hook(note)


def _now() -> float:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
