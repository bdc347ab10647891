"""Stop signals: the run saves the current step and ends."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vaezoo.training import lightning_internals as internals
from vaezoo.training.callbacks.checkpoints import LastCheckpoint, is_resumable_here

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Signals that stop a run, and the exit code of the process."""
if hasattr(signal, "SIGUSR1"):
    SIGNALS[signal.SIGUSR1] = 143  # SLURM's warning before the time limit, if a job requests it


class Stopped(SystemExit):
    """A run was stopped by a signal; if it was training, it has saved the current step."""


class Stopping(Callback):
    """On SIGTERM, SIGINT or SIGUSR1, saves a checkpoint after the current batch and raises Stopped, on every rank.

    Signal handlers only set a flag. Ranks share their flags after each batch by an asynchronous all-reduce, which runs
    while the next batch is computed. A second SIGINT ends the process immediately, even while it is blocked in a
    library, where Python calls no handlers.
    """

    def __init__(self) -> None:
        self.asked = 0
        """The number of the signal received, 0 for none."""
        self._heard = 0
        self._agreed = 0
        self._at_once = False
        self._group: Any = None
        self._message: tuple[Tensor, Any] | None = None

    @property
    def exit_code(self) -> int:
        """The exit code for the signal received, even if its handler has not run yet; 0 for none."""
        number = self.asked or self._heard
        return SIGNALS[signal.Signals(number)] if number else 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within the block, if in the main thread, and restore the previous handlers afterwards.

        A launcher's own handler for SIGUSR1 is kept, because it handles the end of a job's time.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        ours = (signal.SIGINT, signal.SIGTERM)
        mine = [number for number, handler in before.items() if number in ours or not callable(handler)]
        for number in mine:
            signal.signal(number, self._note)
        try:
            with self._hearing(mine):
                yield
        finally:
            for number in mine:
                signal.signal(number, signal.SIG_DFL if before[number] is None else before[number])

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block, signals raise Stopped immediately: there is nothing to save and no other rank to wait for.

        Stopped, too, if a signal has already been received.
        """
        if self.asked:
            raise Stopped(self.exit_code)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def _hearing(self, numbers: Sequence[int]) -> Iterator[None]:
        """Run a thread that reads signal numbers from Python's wakeup pipe as they arrive."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._hear, args=(reading, numbers), name="hear signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.write(writing, b"\0")
            thread.join()
            os.close(writing)
            os.close(reading)

    def _hear(self, reading: int, numbers: Sequence[int]) -> None:
        while number := os.read(reading, 1)[0]:
            if self._heard == number == signal.SIGINT:
                _end_at_once()
            if number in numbers:
                self._heard = number

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked == number == signal.SIGINT:
            _end_at_once()
        self.asked = number
        if self._at_once:
            raise Stopped(self.exit_code)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        trainer.callbacks = [*(other for other in callbacks if other is not self), self]  # type: ignore[attr-defined]
        internals.leave_signals_alone(trainer)
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo")  # on the CPU, so that it does not synchronise with the GPU

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (self.asked or self._group is not None) and self._agree() and is_resumable_here(trainer):
            self._save_and_stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (self.asked or self._group is not None) and self._agree():
            self._save_and_stop(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.state.fn != "fit":  # during training, stopping waits for the next training batch
            self._stop_evaluation()

    def on_test_batch_end(self, *arguments: Any) -> None:
        self._stop_evaluation()

    def _stop_evaluation(self) -> None:
        if self._agree():
            raise self._stopped()

    def _save_and_stop(self, trainer: L.Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                callback.save(trainer)
        raise self._stopped()

    def _stopped(self) -> Stopped:
        return Stopped(SIGNALS[signal.Signals(self._agreed)])

    def _agree(self) -> int:
        """The signal that any rank had received at the previous call, or 0. Collective with several ranks."""
        if self._group is None:
            self._agreed = self.asked
        elif not self._agreed:
            if self._message is not None:
                tensor, work = self._message
                work.wait()
                self._agreed = int(tensor)
            tensor = torch.tensor(self.asked, dtype=torch.int32)
            self._message = tensor, dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return self._agreed


def _end_at_once() -> None:
    os.write(2, b"\nstopped at once; files saved earlier are intact\n")
    os._exit(130)
