"""A training loop within Lightning's, whose work around one batch costs more than a small model does.

It knows Lightning's loops, and of models only that they train by ``training_step``.
"""

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

STEP_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks around the parts of a step, which Lightning alone calls."""

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

TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class InnerLoop:
    """Goes on with the next batches where Lightning has finished one, up to a batch after which it has something to do.

    Everything that can be seen from outside is as in Lightning's own loop: counters, learning rates, gradients, and
    every callback's ``on_train_batch_start`` and ``on_train_batch_end`` for every batch; so a checkpoint that is saved
    in one of those can be resumed in either way. Left out are the hooks that nobody listens to.

    It rests on the parts of ``trainer.fit_loop`` that Lightning's own loop consists of; they are no public interface.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer: Any = trainer
        self.loop = trainer.fit_loop.epoch_loop
        self.optimizer = trainer.optimizers[0]
        self.parameters: list[Parameter] = []
        self.starting = _listeners(trainer, "on_train_batch_start")
        self.ending = _listeners(trainer, "on_train_batch_end")
        hooks: Any = trainer._data_connector._datahook_selector
        self.before, self.transfer, self.after = (getattr(hooks.get_instance(name), name) for name in TRANSFER_HOOKS)

    def run(self) -> None:
        """Train on further batches, if the last one is one that Lightning only counts."""
        fetcher = self.trainer.fit_loop._data_fetcher
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        while not self._lightning_is_due(fetcher):
            self._finish_last()
            self._advance(fetcher)

    def _lightning_is_due(self, fetcher: Any) -> bool:
        """Whether Lightning has something to do after the last batch.

        It ends the epoch, validates or stops, has just begun anew, gathers what was given to ``log`` in this epoch, or
        was unsupported by a callback to go on in a way that is not known here.
        """
        trainer, loop = self.trainer, self.loop
        stops = loop._is_training_done or trainer.should_stop or trainer.received_sigterm or loop.restarting
        unsupported = trainer.accumulate_grad_batches != 1 or loop.automatic_optimization._skip_backward
        return bool(stops or unsupported or loop._results or loop._should_check_val_fx(fetcher))

    def _finish_last(self) -> None:
        """What comes after the callbacks have seen the end of a batch."""
        self.loop.batch_progress.increment_completed()
        if self.trainer.lr_scheduler_configs:
            self.loop.update_lr_schedulers("step", update_plateau_schedulers=True)
        self.loop._batches_that_stepped += 1

    def _advance(self, fetcher: Any) -> None:
        """One batch, from the loader to the callbacks."""
        trainer, loop, progress = self.trainer, self.loop, self.loop.batch_progress
        model = trainer.lightning_module
        batch, _, _ = next(fetcher)
        index = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = self.before(trainer.precision_plugin.convert_input(batch), 0)
        batch = self.after(self.transfer(batch, trainer.strategy.root_device, 0), 0)
        progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        model._current_fx_name = "on_train_batch_start"  # what ``log`` asks for, should it be called
        for hook in self.starting:
            hook(trainer, model, batch, index)
        progress.increment_started()
        model._current_fx_name = "training_step"
        outputs = {"loss": self._step(batch, index)}
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if loop._num_ready_batches_reached():
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        model._current_fx_name = "on_train_batch_end"
        for hook in self.ending:
            hook(trainer, model, outputs, batch, index)

    def _step(self, batch: Any, index: int) -> Tensor:
        """One step of the optimiser, counted; the loss."""
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
        """Move the weights against the gradient of a loss, which the model sees before it is clipped."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self.trainer.lightning_module.on_before_optimizer_step(self.optimizer)
        clip = self.trainer.gradient_clip_val
        if clip is not None:
            self.trainer.lightning_module.clip_gradients(self.optimizer, clip, self.trainer.gradient_clip_algorithm)
        self.optimizer.step()


def reason_against(trainer: L.Trainer, model: L.LightningModule, reference: type[L.LightningModule]) -> str | None:
    """Why a training must take every batch through Lightning's loop, in words; None where ``InnerLoop`` can run it.

    ``reference`` is the class whose hooks are as ``InnerLoop`` expects them.
    """
    facts: Any = trainer
    overridden = [hook for hook in MODEL_HOOKS if getattr(type(model), hook) is not getattr(reference, hook)]
    listening = [
        f"{type(callback).__name__} implements {hook}"
        for callback in facts.callbacks
        for hook in STEP_HOOKS
        if is_overridden(hook, callback, Callback)
    ]
    accumulates = any(isinstance(callback, GradientAccumulationScheduler) for callback in facts.callbacks)
    reasons = {
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
    """The callbacks' methods of that name, of those that have one."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [getattr(callback, hook) for callback in callbacks if is_overridden(hook, callback, Callback)]
