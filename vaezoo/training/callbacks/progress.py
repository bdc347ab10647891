"""The progress bar: loss, recon, kl and images per second."""

import logging
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console

from vaezoo.distributed.batch_shares import images_in

log = logging.getLogger(__name__)

SHOWN = ("loss", "recon", "kl")


class ProgressBar(RichProgressBar):
    """Rich's progress bar on a terminal; otherwise one line per validation, suitable for log files.

    It shows the scalars of the last log point, so that it does not synchronise with the device.
    """

    def __init__(self, *, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._on_terminal = get_console().is_terminal
        if not self._on_terminal:
            self.disable()
        self._images = 0
        self._since = 0.0
        self._speed = 0.0

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        seen = trainer.callback_metrics
        scalars = {name: f"{seen[f'train/{name}'].item():.2f}" for name in SHOWN if f"train/{name}" in seen}
        return {**scalars, "images/s": f"{self._speed:,.0f}"} if self._speed else scalars

    def on_train_epoch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._images, self._since = 0, time.perf_counter()
        super().on_train_epoch_start(trainer, *arguments)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += images_in(batch, trainer.world_size)
        self._speed = self._images / (time.perf_counter() - self._since)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if (
            not self._on_terminal
            and trainer.is_global_zero
            and trainer.state.fn == "fit"
            and not trainer.sanity_checking
        ):
            seen = trainer.callback_metrics
            names = [name for name in (*SHOWN, "elbo", "elbo_given_label", "psnr") if f"val/{name}" in seen]
            numbers = "  ".join(f"{name} {seen[f'val/{name}'].item():.2f}" for name in names)
            log.info("epoch %d  step %d  val: %s", trainer.current_epoch + 1, trainer.global_step, numbers)
