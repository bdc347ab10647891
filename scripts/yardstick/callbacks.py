"""Lightning callbacks that measure: seconds of training, the first step, and where the time of a step goes."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as L
import torch
from torch import profiler
from torch.optim.optimizer import register_optimizer_step_post_hook

from yardstick.measurement import Laps, wait_for_device


class Stopwatch(L.Callback):
    """Seconds of training and of validation after the first epoch, which is warm-up; written to ``out`` at the end.

    Logging and checkpoints count as training, pictures that are drawn in validation as validation.
    """

    def __init__(self, out: str) -> None:
        self.out, self.laps = Path(out), Laps()

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            self.laps.start()

    def on_validation_start(self, *_: Any) -> None:
        self.laps.end("seconds")

    def on_validation_end(self, *_: Any) -> None:
        self.laps.end("validation_seconds")

    def on_train_end(self, *_: Any) -> None:
        self.laps.end("seconds")
        self.out.write_text(json.dumps(self.laps.seconds))


class FirstStep(L.Callback):
    """Writes the time of day after the first step of any optimiser to ``out``, and ends the process."""

    def __init__(self, out: str) -> None:
        def note(*_: Any) -> None:
            Path(out).write_text(json.dumps(time.time()))
            os._exit(0)

        register_optimizer_step_post_hook(note)


FORWARD, BACKWARD, OPTIMISER = "forward", "backward", "optimiser"
LOADER, LOGGING, CALLBACKS = "loader", "logging", "callbacks"
VALIDATION, REST = "validation and pictures", "rest: Lightning itself"
RANGES = (FORWARD, BACKWARD, OPTIMISER, LOADER, LOGGING, CALLBACKS, VALIDATION, REST)

WARM_UP, PROFILED = 20, 20
"""Optimiser steps before the measured ones, and after them under torch's profiler, which slows steps down."""

FORWARD_METHODS = ("loss_terms", "objective")
LOGGING_METHODS = ("_log", "_means", "check_finite", "log_training_if_due")


class Clock:
    """Seconds on the host by range. A moment belongs to the innermost open range, so that all add up to the total."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._open = now, [REST]
        self.profiled = False
        """Whether torch's profiler runs, and is told the ranges."""
        self.reset()

    def reset(self) -> None:
        """Start anew; open ranges stay open."""
        self._seconds, self._since = dict.fromkeys(RANGES, 0.0), self._now()

    def read(self) -> dict[str, float]:
        """Seconds of each range so far."""
        now = self._now()
        self._seconds[self._open[-1]] += now - self._since
        self._since = now
        return dict(self._seconds)

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Open a range; within validation none is opened."""
        if self._open[-1] in (VALIDATION, name):
            yield
            return
        self.read()
        self._open.append(name)
        try:
            with profiler.record_function(name) if self.profiled else nullcontext():
                yield
        finally:
            self.read()
            self._open.pop()


class StepClock(L.Callback):
    """Measures where the time of ``steps`` optimiser steps goes, and writes it to ``out``.

    Functions that training calls are timed from outside, until it ends; the rest is Lightning's own. A chrome trace of
    the profiled steps is written to ``trace``.
    """

    def __init__(self, out: str, steps: int, trace: str | None = None) -> None:
        self.out, self.steps, self.trace = Path(out), steps, trace
        self.clock, self.patches = Clock(), ExitStack()
        self._taken = 0
        self._profiler: profiler.profile | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._time(FORWARD, pl_module, *FORWARD_METHODS)
        self._time(LOGGING, pl_module, *LOGGING_METHODS)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback is not self:
                self._time(CALLBACKS, callback, *_own_hooks(callback))
        self._time(BACKWARD, torch.autograd, "backward", "grad")
        self._time(LOADER, trainer.strategy, "batch_to_device")
        self._time(LOADER, trainer.datamodule, "transfer_batch_to_device", "on_after_batch_transfer")  # type: ignore[attr-defined]
        self._time(VALIDATION, trainer.fit_loop.epoch_loop.val_loop, "run")
        for logger in trainer.loggers:
            self._time(LOGGING, logger, "log_metrics", "save")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            self._time(OPTIMISER, optimizer, "zero_grad")
            self._time(OPTIMISER, optimizer, "step", then=self._after_step)
        self._time_batches(type(trainer.train_dataloader))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish()
        self.patches.close()

    def _time(self, label: str, owner: Any, *names: str, then: Callable[[], None] = lambda: None) -> None:
        """Put a range around methods of an object, or functions of a module, that it has."""

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def inner(*arguments: Any, **options: Any) -> Any:
                with self.clock.range(label):
                    result = function(*arguments, **options)
                then()
                return result

            return inner

        for name in names:
            if hasattr(owner, name):
                self.patches.enter_context(patch.object(owner, name, timed(getattr(owner, name))))

    def _time_batches(self, loaders: Any) -> None:
        """Put a range around each batch that a class of loaders gives."""
        batches = loaders.__iter__

        def timed(loader: Any) -> Iterator[Any]:
            with self.clock.range(LOADER):
                iterator = iter(batches(loader))
            while True:
                with self.clock.range(LOADER):
                    batch = next(iterator, self)
                if batch is self:
                    return
                yield batch

        self.patches.enter_context(patch.object(loaders, "__iter__", timed))

    def _after_step(self) -> None:
        """Start the clock after the warm-up; stop it and start the profiler after ``steps`` more."""
        self._taken += 1
        if self._taken == WARM_UP:
            wait_for_device()
            self.clock.reset()
        elif self._taken == WARM_UP + self.steps:
            wait_for_device()
            self._seconds, self.clock.profiled = self.clock.read(), True
            cuda = [profiler.ProfilerActivity.CUDA] if torch.cuda.is_initialized() else []
            self._profiler = profiler.profile(activities=[profiler.ProfilerActivity.CPU, *cuda])
            self._profiler.start()
        elif self._taken == WARM_UP + self.steps + PROFILED:
            self._finish()

    def _finish(self) -> None:
        """Stop the profiler and write what was found."""
        if self._profiler is None:
            return
        wait_for_device()
        self._profiler.stop()
        self.clock.profiled = False
        profiled = max(self._taken - WARM_UP - self.steps, 1)
        found = {"steps": self.steps, "seconds": self._seconds, **_operators(self._profiler, profiled)}
        self.out.write_text(json.dumps(found))
        if self.trace is not None:
            self._profiler.export_chrome_trace(self.trace)
        self._profiler = None


def _own_hooks(callback: L.Callback) -> list[str]:
    """The hooks that a callback's class overrides."""
    hooks = [name for name in dir(L.Callback) if name.startswith("on_")]
    return [name for name in hooks if getattr(type(callback), name) is not getattr(L.Callback, name)]


def _operators(profile: profiler.profile, steps: int) -> dict[str, Any]:
    """The operators with the longest self time, and the time of the GPU if there is one, in ms per step."""
    on_gpu = any(event.self_device_time_total for event in profile.key_averages())
    kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = [event for event in profile.key_averages() if event.key not in RANGES]
    longest = sorted(events, key=lambda event: getattr(event, kind), reverse=True)[:10]
    kernels = [event for event in profile.events() or () if str(event.device_type).endswith("CUDA")]
    return {
        "operators": [
            {"name": one.key, "ms": getattr(one, kind) / 1000 / steps, "calls": one.count / steps} for one in longest
        ],
        "device_ms": sum(event.self_device_time_total for event in kernels) / 1000 / steps,
    }
