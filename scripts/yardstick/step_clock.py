"""Times the parts of an optimiser step from outside, with ranges around the functions that training calls.

Time is attributed to the innermost open range, so that the parts add up to the total; time outside all ranges is
Lightning's own.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import profiler

FORWARD, BACKWARD, OPTIMISER = "forward", "backward", "optimiser"
LOADER, LOGGING, CALLBACKS = "loader", "logging", "callbacks"
VALIDATION, REST = "validation and pictures", "rest: Lightning itself"
RANGES = (FORWARD, BACKWARD, OPTIMISER, LOADER, LOGGING, CALLBACKS, VALIDATION, REST)

WARM_UP, PROFILED = 20, 20
"""Optimiser steps before the clock runs, and with torch's profiler after it: that slows down what it watches."""

METHODS = {
    "loss_terms": FORWARD,
    "objective": FORWARD,
    "_log": LOGGING,
    "_means": LOGGING,
    "check_finite": LOGGING,
    "log_training_if_due": LOGGING,
}
"""What models have that is timed, if they have it."""


class Clock:
    """Seconds by range, on the host. In a range of ``opaque`` ones no other is opened."""

    def __init__(self, opaque: tuple[str, ...] = (VALIDATION,), now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.named = False
        """Whether torch's profiler is told the ranges too."""
        self._open = [REST]
        self._opaque, self._now = opaque, now
        self._since = now()

    def reset(self) -> None:
        """Forget what was counted; ranges that are open stay so."""
        self._book()
        self.seconds.clear()

    def read(self) -> dict[str, float]:
        """Seconds of each range until now."""
        self._book()
        return {name: self.seconds.get(name, 0.0) for name in RANGES}

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """What happens in it is booked under ``name``."""
        if self._open[-1] in self._opaque or self._open[-1] == name:
            yield
            return
        self._book()
        self._open.append(name)
        try:
            with profiler.record_function(name) if self.named else nullcontext():
                yield
        finally:
            self._book()
            self._open.pop()

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same function, in a range."""

        def inner(*arguments: Any, **options: Any) -> Any:
            with self.range(name):
                return function(*arguments, **options)

        return inner

    def _book(self) -> None:
        now = self._now()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now


class StepClock(L.Callback):
    """Puts ranges around a training, and writes what they say of ``steps`` optimiser steps to ``out``.

    Steps are those that optimisers took, or that Lightning counted if they are more, however many go in one of its
    own; the clock starts and stops at the end of one. ``trace``: where torch's profiler writes its trace, if anywhere.
    """

    def __init__(self, out: str, steps: int, trace: str | None = None) -> None:
        self.out, self.steps, self.trace = Path(out), steps, trace
        self.clock = Clock()
        self._calls = 0
        self._profiler: profiler.profile | None = None
        self._started_at: int | None = None
        self._found: dict[str, Any] | None = None
        self._undo: list[Callable[[], None]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trainer = trainer
        for name, label in METHODS.items():
            if hasattr(pl_module, name):
                self._wrap(pl_module, name, label)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback is not self:
                for hook in _hooks(callback):
                    self._wrap(callback, hook, CALLBACKS)
        for name in ("backward", "grad"):
            self._wrap(torch.autograd, name, BACKWARD)
        self._wrap(trainer.strategy, "batch_to_device", LOADER)
        data = trainer.datamodule  # type: ignore[attr-defined]
        for name in ("transfer_batch_to_device", "on_after_batch_transfer") if data is not None else ():
            self._wrap(data, name, LOADER)
        self._wrap(trainer.fit_loop.epoch_loop.val_loop, "run", VALIDATION)
        for logger in trainer.loggers:
            self._wrap(logger, "log_metrics", LOGGING)
            self._wrap(logger, "save", LOGGING)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for optimizer in trainer.optimizers:
            self._wrap(optimizer, "zero_grad", OPTIMISER)
            self._wrap(optimizer, "step", OPTIMISER, then=self._count)
        self._watch_loader(type(trainer.train_dataloader))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look()
        self._finish()
        for undo in reversed(self._undo):
            undo()
        self.out.write_text(json.dumps(self._found))

    def _wrap(self, owner: Any, name: str, label: str, then: Callable[[], None] | None = None) -> None:
        """Put a range around a method of an object, or around a function of a module, until training ends."""
        function, own = getattr(owner, name), name in vars(owner)
        timed = self.clock.timed(function, label)

        def inner(*arguments: Any, **options: Any) -> Any:
            result = timed(*arguments, **options)
            if then is not None:
                then()
            return result

        setattr(owner, name, inner)
        self._undo.append((lambda: setattr(owner, name, function)) if own else (lambda: delattr(owner, name)))

    def _watch_loader(self, cls: type) -> None:
        """Put a range around each batch that a kind of loader is asked for."""
        batches, clock = cls.__iter__, self.clock  # type: ignore[attr-defined]

        def watched(loader: Any) -> Iterator[Any]:
            with clock.range(LOADER):
                iterator = iter(batches(loader))
            end = object()
            while True:
                with clock.range(LOADER):
                    batch = next(iterator, end)
                if batch is end:
                    return
                yield batch

        cls.__iter__ = watched  # type: ignore[attr-defined]
        self._undo.append(lambda: setattr(cls, "__iter__", batches))

    def _count(self) -> None:
        self._calls += 1
        self._look()

    def _look(self) -> None:
        """Start the clock after the warm-up, stop it and start the profiler after as many steps as were asked for."""
        steps = max(self._calls, self._trainer.global_step)
        if self._started_at is None:
            if steps >= WARM_UP:
                _wait()
                self.clock.reset()
                self._started_at = steps
        elif self._found is None:
            if steps >= self._started_at + self.steps:
                _wait()
                self._found = {"steps": steps - self._started_at, "seconds": self.clock.read()}
                self._profile(steps)
        elif self._profiler is not None and steps >= self._profiled_from + PROFILED:
            self._finish()

    def _profile(self, steps: int) -> None:
        cuda = [profiler.ProfilerActivity.CUDA] if torch.cuda.is_initialized() else []
        self._profiler = profiler.profile(activities=[profiler.ProfilerActivity.CPU, *cuda])
        self._profiler.start()
        self._profiled_from, self.clock.named = steps, True

    def _finish(self) -> None:
        """Read what torch's profiler saw."""
        if self._profiler is None or self._found is None:
            return
        _wait()
        self._profiler.stop()
        self.clock.named = False
        steps = max(self._calls, self._trainer.global_step) - self._profiled_from
        self._found["operators"] = _operators(self._profiler, max(steps, 1))
        self._found["device_ms"] = _device_ms(self._profiler, max(steps, 1))
        if self.trace is not None:
            self._profiler.export_chrome_trace(self.trace)
        self._profiler = None


def _hooks(callback: L.Callback) -> list[str]:
    """The hooks that a callback's class has written for itself."""
    names = [name for name in dir(L.Callback) if name.startswith("on_")]
    return [name for name in names if getattr(type(callback), name) is not getattr(L.Callback, name)]


def _operators(seen: profiler.profile, steps: int, count: int = 10) -> list[dict[str, Any]]:
    """The operators that took longest themselves, in ms per optimiser step, on the GPU if one was seen."""
    own = [event for event in seen.key_averages() if event.key not in RANGES]
    on_gpu = any(event.self_device_time_total for event in own)
    time_of = (lambda event: event.self_device_time_total) if on_gpu else (lambda event: event.self_cpu_time_total)
    longest = sorted(own, key=time_of, reverse=True)[:count]
    return [{"name": one.key, "ms": time_of(one) / 1000 / steps, "calls": one.count / steps} for one in longest]


def _device_ms(seen: profiler.profile, steps: int) -> float:
    """What the GPU computed, in ms per optimiser step; 0 without one."""
    events = [event for event in seen.events() or () if str(event.device_type).endswith("CUDA")]
    return float(sum(event.self_device_time_total for event in events)) / 1000 / steps


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
