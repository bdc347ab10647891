"""Checkpoint callbacks: ``last.ckpt`` to resume from, ``best.ckpt`` to use."""

import io
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any
from weakref import proxy

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from vaezoo.config.errors import DiskError
from vaezoo.config.validation import at_least
from vaezoo.runs import checkpoints
from vaezoo.runs.files import CANNOT_WRITE, cannot_write, commit, replacing, synchronise, temporary_path
from vaezoo.training import lightning_internals as internals


class LastCheckpoint(internals.Checkpointing):
    """Saves ``last.ckpt`` every ``every_n_epochs`` epochs, every ``every_n_steps`` steps and at the end of training.

    The one before is kept as ``previous.ckpt``, in case a disk damages the last. At least ``min_seconds`` pass between
    two checkpoints, so that small models with short epochs do not spend their time writing. A resumed run ends with the
    same result from any checkpoint.
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
        self._due = self._last_is_good = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        use_checkpoint_file(trainer)
        self._last_is_good = Path(trainer.ckpt_path or "").name == "last.ckpt"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._due |= trainer.global_step % self.every_n_steps == 0
        if self._due and is_resumable_here(trainer):
            self._due = False
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if training_ends(trainer):
            self.save(trainer)  # before averaged weights replace those that training resumes from
        elif (trainer.current_epoch + 1) % (self.every_n_epochs or 1) == 0:
            self._save_if_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {}  # a resumed run needs none of Lightning's state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the paths in checkpoints of earlier versions."""

    def save(self, trainer: Trainer) -> None:
        """Save the current step, unless that was already done."""
        if not self.is_saved(trainer):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))
            self._saved_at = time.monotonic()

    def write_checkpoint(self, trainer: Trainer, path: str) -> None:
        checkpoint = internals.checkpoint_content(trainer, weights_only=self.save_weights_only)
        before = Path(path) if self._last_is_good else None
        write(trainer, checkpoint, Path(path), keep=before)
        self._last_is_good = True
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _save_if_due(self, trainer: Trainer) -> None:
        due = time.monotonic() - self._saved_at >= self.min_seconds
        if trainer.world_size > 1:  # saving is collective, and the clocks of the ranks differ
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due:
            self.save(trainer)


class BestCheckpoint(internals.Checkpointing):
    """Saves ``best.ckpt``, the weights with the best validation metric; the model's ``selection`` names the metric.
    A model without selection has none.

    Early in training almost every validation is the best so far, so the weights are kept in memory and written together
    with the next ``last.ckpt``, or when training ends for any reason.
    """

    def __init__(self, *, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",  # until the model is known
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._snapshot: tuple[str, dict[str, Any]] | None = None
        self._defers_writing, self._selects = False, True
        self.taking_snapshot = False
        """Whether weights are being copied to memory; training never resumes from those."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        selection: Any = pl_module.selection
        self._selects = selection is not None
        self.monitor, self.mode = selection or (None, "min")
        self._defers_writing = any(isinstance(callback, LastCheckpoint) for callback in trainer.callbacks)  # type: ignore[attr-defined]
        super().setup(trainer, pl_module, stage)
        use_checkpoint_file(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, with ``best.ckpt`` in the current run folder, which may have been moved.

        ValueError if the score is not finite.
        """
        score, path = state_dict["best_model_score"], Path(str(self.dirpath), "best.ckpt")
        if score is None or not path.is_file():
            return
        if not math.isfinite(score):
            raise ValueError(f"the best score is {score}")
        self.best_model_path = self.kth_best_model_path = str(path)
        self.best_model_score = self.kth_value = self.current_score = torch.as_tensor(score)
        self.best_k_models = {str(path): self.kth_value}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._selects:
            super().on_validation_end(trainer, pl_module)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Nothing: skips Lightning's check after every batch, since nothing is saved within an epoch."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.write(trainer)  # the checkpoint refers to best.ckpt, so it must exist first

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._snapshot is not None and trainer.is_global_zero:  # not collective: other ranks may not get here
            path, checkpoint = self._snapshot
            with suppress(DiskError), replacing(Path(path)) as new:  # must not hide the exception
                trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, new)

    def write(self, trainer: Trainer) -> None:
        """Write the weights kept in memory, if any. Collective."""
        if self._snapshot is None or self.taking_snapshot:
            return
        path, checkpoint = self._snapshot
        write(trainer, checkpoint, Path(path))
        self._snapshot = None
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def write_checkpoint(self, trainer: Trainer, path: str) -> None:
        self.taking_snapshot = True
        try:
            checkpoint = internals.checkpoint_content(trainer, weights_only=self.save_weights_only)
            self._snapshot = (path, cpu_copy(checkpoint))
        finally:
            self.taking_snapshot = False
        if not self._defers_writing:
            self.write(trainer)


class CheckpointFile(TorchCheckpointIO):
    """Writes checkpoints directly to the requested file, where Lightning uses a temporary folder on another disk.

    It reads only checkpoints that pass ``vaezoo.runs.checkpoints``, and removes only files in the folders of the
    trainer's checkpoint callbacks: Lightning would remove any file or folder that a checkpoint names.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._callbacks: list[Any] = trainer.checkpoint_callbacks

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()  # so that a full disk raises OSError and not an error of torch's archive writer
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return checkpoints.read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        folders = [Path(folder).resolve() for callback in self._callbacks if (folder := callback.dirpath)]
        if Path(path).is_file() and Path(path).resolve().parent in folders:
            Path(path).unlink()


def use_checkpoint_file(trainer: Trainer) -> None:
    """Use ``CheckpointFile`` for checkpoints, unless the strategy has its own checkpoint plugin."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = CheckpointFile(trainer)


def is_resumable_here(trainer: Trainer) -> bool:
    """Whether a run resumed from a checkpoint at the end of this batch would continue exactly.

    Lightning's checkpoints lose a validation or an epoch's end that comes right after the batch, and accumulated
    gradients.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    ends = trainer.is_last_batch or internals.is_done(loop)
    validates = internals.validates_next(loop, internals.data_fetcher(trainer))
    return not (ends or validates or internals.accumulates(loop))


def training_ends(trainer: Trainer) -> bool:
    """At an epoch's end: whether training ends with this epoch."""
    loop: Any = trainer.fit_loop
    counts = ((trainer.global_step, loop.max_steps), (loop.epoch_progress.current.processed, loop.max_epochs))
    return trainer.should_stop or any(most not in (None, -1) and count >= most for count, most in counts)


def write(trainer: Trainer, checkpoint: dict[str, Any], path: Path, *, keep: Path | None = None) -> None:
    """Write a checkpoint to a temporary file and rename it; a crash leaves the old file intact. Collective.

    ``keep``, if given, is kept as ``previous.ckpt``. DiskError, on all ranks, if the disk is full or fails.
    """
    new, problem = temporary_path(path), None
    try:
        trainer.strategy.save_checkpoint(checkpoint, new)
        if trainer.is_global_zero:
            synchronise(new)
            if keep is not None and keep.exists():
                _link(keep, keep.with_name("previous.ckpt"))
            commit(new, path)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        problem = cannot_write(path, error)
        new.unlink(missing_ok=True)
    problem = trainer.strategy.broadcast(problem)
    if problem is not None:
        raise DiskError(problem)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name, replacing the file there; rename it where the file system has no hard links."""
    new = temporary_path(name)
    new.unlink(missing_ok=True)
    try:
        os.link(path, new)
    except OSError:
        path.replace(name)
    else:
        new.replace(name)


def cpu_copy(node: Any) -> Any:
    """A deep copy of nested values with all tensors on the CPU."""
    if isinstance(node, Tensor):
        return node.detach().to("cpu", copy=True)
    if isinstance(node, Mapping):
        return {key: cpu_copy(value) for key, value in node.items()}
    if isinstance(node, list):
        return [cpu_copy(value) for value in node]
    return deepcopy(node)
