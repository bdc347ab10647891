"""Optimiser and learning-rate schedule of a model: their creation, parameter groups and states."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from vaezoo.config.errors import ConfigError
from vaezoo.training import fsdp
from vaezoo.training.model_interface import ModelInterface
from vaezoo.training.optimizers import (
    Groups,
    check_settings,
    example_states,
    make_optimizer,
    make_scheduler,
    parameter_groups,
)


class OptimizerSetup(ModelInterface):
    """Creates one optimiser, with a second parameter group for critics, and its schedule.

    ConfigError if torch cannot train with the settings.
    """

    def __init__(self, *, optimizer: Mapping[str, Any] | None, scheduler: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._optimizer = optimizer or {"name": "Adam", "lr": 1e-3}
        self._scheduler = scheduler
        self._planned_steps: int | None = None
        check_settings(self._optimizer, scheduler)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = make_optimizer(self._groups(), self._optimizer, fused=self._can_be_fused())
        if self._scheduler is None:
            return optimizer
        scheduler = make_scheduler(optimizer, self._scheduler, self._steps_to_plan())
        scheduler.setdefault("frequency", self._epochs_between_validations(scheduler))
        self._refuse_longer_than(scheduler)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def _groups(self) -> Groups:
        return parameter_groups(self, self.critics)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of each parameter group by itself, so that a critic's do not shrink the model's."""
        if not self.critics or not gradient_clip_val:
            return super().clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        by_value = gradient_clip_algorithm == "value"
        clip = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
        for group in optimizer.param_groups:
            if trained := [parameter for parameter in group["params"] if parameter.grad is not None]:
                clip(trained, gradient_clip_val)  # torch fails if there are none

    def _can_be_fused(self) -> bool:
        """Whether the fused implementation of an optimiser may be used, if it has one."""
        facts: Any = self.trainer
        # Lightning refuses to clip gradients of fused optimisers under mixed precision.
        scaled = facts.precision == "16-mixed" or (facts.precision == "bf16-mixed" and facts.gradient_clip_val)
        suits = self.device.type in ("cpu", "cuda") and fsdp.can_be_fused(self, self._optimizer["name"])
        return suits and not scaled

    def _steps_to_plan(self) -> int:
        """Optimiser steps of the whole run, for schedules with ``total_steps``; ConfigError if they are unlimited."""
        if "total_steps" not in (self._scheduler or {}).values():
            return 1
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise ConfigError("model.scheduler covers the whole run: set trainer.max_epochs or trainer.max_steps")
        self._plan(self._planned_steps, int(steps))
        return int(steps)

    def _refuse_longer_than(self, scheduler: dict[str, Any]) -> None:
        """ConfigError if the run has more steps than its schedule: torch would fail in the middle of it."""
        most = getattr(scheduler["scheduler"], "total_steps", math.inf)
        trainer: Any = self.trainer
        if most < math.inf and scheduler["interval"] == "step":
            steps = trainer.estimated_stepping_batches
        else:
            steps = trainer.max_epochs if trainer.max_epochs not in (None, -1) else 0
        if steps > most:
            raise ConfigError(
                f"model.scheduler is made for {most} steps, but this run has {steps}; write total_steps: total_steps"
            )

    def _plan(self, before: int | None, steps: int | None) -> None:
        """Record the length of the schedule; ConfigError if a resumed run asks for another."""
        if None not in (before, steps) and before != steps:
            raise ConfigError(
                f"model.scheduler was made for a run of {before} steps, not {steps}; resume with the previous"
                " trainer.max_epochs or max_steps, or start a new run"
            )
        self._planned_steps = before if steps is None else steps

    def _epochs_between_validations(self, scheduler: dict[str, Any]) -> int:
        """Epochs between two updates of a plateau schedule: those between two validations."""
        by_epoch = scheduler["interval"] == "epoch" and str(scheduler["monitor"]).startswith("val/")
        return (self.trainer.check_val_every_n_epoch or 1) if by_epoch and scheduler.get("reduce_on_plateau") else 1

    def example_states(self) -> dict[str, Any]:
        """Example states of optimiser and schedule as in a checkpoint; empty for custom optimisers and LBFGS.

        ConfigError for an optimiser without the settings of the critics' group.
        """
        single_group = self._optimizer["name"] == "LBFGS" and not self.critics
        if type(self).configure_optimizers is not OptimizerSetup.configure_optimizers or single_group:
            return {}
        return example_states(self._groups(), self._optimizer, self._scheduler)
