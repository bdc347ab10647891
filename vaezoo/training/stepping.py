"""A faster training loop inside Lightning's, whose overhead per batch exceeds the computation of a small model."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.nn import Parameter
from torch.optim import LBFGS

from vaezoo.training import lightning_internals as internals

STEP_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks within a step that ``InnerLoop`` does not call (except the model's own ``on_before_optimizer_step``)."""

MODEL_HOOKS = (
    *STEP_HOOKS,
    "on_train_batch_start",
    "on_train_batch_end",
    "training_step",
    "backward",
    "configure_gradient_clipping",
    "optimizer_step",
    "optimizer_zero_grad",
)


class InnerLoop:
    """Trains on the following batches after Lightning has finished one, until Lightning has other work to do.

    Counters, learning rates, gradients, and the callbacks' ``on_train_batch_start`` and ``on_train_batch_end`` are as
    in Lightning's own loop, so that a checkpoint saved in one of these hooks can be resumed with either loop. Hooks
    that have no listeners are skipped.

    It uses private parts of ``trainer.fit_loop``.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer: Any = trainer
        self.loop = trainer.fit_loop.epoch_loop
        self.optimizer = trainer.optimizers[0]
        self.parameters: list[Parameter] = []
        self.starting = _listeners(trainer, "on_train_batch_start")
        self.ending = _listeners(trainer, "on_train_batch_end")
        self.before, self.transfer, self.after = internals.transfer_hooks(trainer)

    def run(self) -> None:
        """Train on the next batches until Lightning has work to do (validation, logging, end of epoch)."""
        fetcher = internals.data_fetcher(self.trainer)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        while not self._lightning_is_due(fetcher):
            self._finish_last()
            self._advance(fetcher)

    def _lightning_is_due(self, fetcher: Any) -> bool:
        """Whether Lightning has work to do after the last batch.

        True at an epoch's end, before validation, on stop, after a restart, when ``log`` was used in this epoch, or
        when a callback changed gradient accumulation or skips backward passes.
        """
        trainer, loop = self.trainer, self.loop
        stops = internals.is_done(loop) or trainer.should_stop or trainer.received_sigterm or loop.restarting
        unsupported = trainer.accumulate_grad_batches != 1 or internals.skips_backward(loop)
        return bool(stops or unsupported or internals.has_logged(loop) or internals.validates_next(loop, fetcher))

    def _finish_last(self) -> None:
        """Complete a batch after the callbacks' ``on_train_batch_end``: counters and schedules that watch a metric."""
        self.loop.batch_progress.increment_completed()
        if self.trainer.lr_scheduler_configs:
            self.loop.update_lr_schedulers("step", update_plateau_schedulers=True)
        internals.count_step(self.loop)

    def _advance(self, fetcher: Any) -> None:
        """Load one batch, take a step and call the callbacks."""
        trainer, loop, progress = self.trainer, self.loop, self.loop.batch_progress
        model = trainer.lightning_module
        batch, _, _ = next(fetcher)
        index = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = self.before(trainer.precision_plugin.convert_input(batch), 0)
        batch = self.after(self.transfer(batch, trainer.strategy.root_device, 0), 0)
        progress.increment_ready()
        internals.note_batch(trainer, batch)
        internals.set_hook_for_logging(model, "on_train_batch_start")  # needed by ``log``
        for hook in self.starting:
            hook(trainer, model, batch, index)
        progress.increment_started()
        internals.set_hook_for_logging(model, "training_step")
        outputs = {"loss": self._step(batch, index)}
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if internals.is_last_of_epoch(loop):
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        internals.set_hook_for_logging(model, "on_train_batch_end")
        for hook in self.ending:
            hook(trainer, model, outputs, batch, index)

    def _step(self, batch: Any, index: int) -> Tensor:
        """Take one optimiser step and count it; return the loss."""
        counted = self.loop.automatic_optimization.optim_progress.optimizer
        counted.step.increment_ready()
        counted.zero_grad.increment_ready()
        counted.zero_grad.increment_started()
        loss = self._forward_and_update(batch, index)
        counted.zero_grad.increment_completed()
        counted.step.increment_completed()
        return loss

    def _forward_and_update(self, batch: Any, index: int) -> Tensor:
        with self.trainer.precision_plugin.train_step_context():
            loss: Tensor = self.trainer.lightning_module.training_step(batch, index)
        self._update(loss)
        return loss.detach()

    def _update(self, loss: Tensor) -> None:
        """Backpropagate and update the weights; the model checks gradients before they are clipped."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self.trainer.lightning_module.on_before_optimizer_step(self.optimizer)
        clip = self.trainer.gradient_clip_val
        if clip is not None:
            self.trainer.lightning_module.clip_gradients(self.optimizer, clip, self.trainer.gradient_clip_algorithm)
        self.optimizer.step()


def reason_against(trainer: L.Trainer, model: L.LightningModule, reference: type[L.LightningModule]) -> str | None:
    """The reason why this training needs Lightning's own loop, as a clause; None if ``InnerLoop`` can run it.

    ``reference`` is the class whose hooks ``InnerLoop`` supports; a model that overrides them is not supported.
    """
    facts: Any = trainer
    lacking = internals.missing(trainer, internals.FAST_LOOP)
    overridden = [hook for hook in MODEL_HOOKS if getattr(type(model), hook) is not getattr(reference, hook)]
    listening = [
        f"{type(callback).__name__} implements {hook}"
        for callback in facts.callbacks
        for hook in STEP_HOOKS
        if is_overridden(hook, callback, Callback)
    ]
    accumulates = any(isinstance(callback, GradientAccumulationScheduler) for callback in facts.callbacks)
    reasons = {
        f"this version of Lightning has no {lacking[0] if lacking else ''}": bool(lacking),
        "training uses several devices": type(trainer.strategy) is not SingleDeviceStrategy,
        "the model takes its own optimiser steps": not model.automatic_optimization,
        "gradients are accumulated": accumulates or trainer.accumulate_grad_batches != 1,
        "gradients are scaled": trainer.precision == "16-mixed",
        "the optimiser evaluates each batch several times": isinstance(facts.optimizers[0], LBFGS),
        "a profiler is on": not isinstance(facts.profiler, PassThroughProfiler),
        f"{type(model).__name__} has {' and '.join(overridden)} of its own": bool(overridden),
        " and ".join(listening): bool(listening),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _listeners(trainer: L.Trainer, hook: str) -> list[Callable[..., None]]:
    """The bound methods of all callbacks that override ``hook``."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [getattr(callback, hook) for callback in callbacks if is_overridden(hook, callback, Callback)]
