"""The LightningModule behind every autoencoder: training steps, their logging and checkpoints."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from vaezoo.config.errors import NonFiniteLossError
from vaezoo.distributed import batch_shares
from vaezoo.nn.image_api import unchecked
from vaezoo.training.evaluation_steps import REMEDY, EvaluationSteps
from vaezoo.training.fsdp import whole
from vaezoo.training.lightning_internals import trainer_of
from vaezoo.training.nonfinite import Guard
from vaezoo.training.optimizer_setup import OptimizerSetup
from vaezoo.training.optimizers import adapt, settings_by_group
from vaezoo.training.running_means import state_of_rank
from vaezoo.training.stepping import InnerLoop, reason_against
from vaezoo.training.terms import Batch, Weights

log = logging.getLogger(__name__)

START_IMAGES = 1000
"""Training images whose mean a decoder starts at."""


class Loop(EvaluationSteps, OptimizerSetup):
    """Trains a model by its ``loss_terms`` and ``objective``, and logs metrics under the same names for every model.

    Scalars are ``{train,val,test}/{loss,recon,kl,elbo,...}``, in nats per image. ``loss`` is the objective; ``elbo`` is
    always computed at beta = 1. Training scalars are means over the images since the last log point, those of
    validation and test are exact means over the whole set.
    """

    stepping = "fast"
    """``lightning`` runs each batch through Lightning's loop, ``fast`` uses ``InnerLoop``. Only the speed differs."""

    def __init__(self, *, optimizer: dict[str, Any] | None, scheduler: dict[str, Any] | None) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.guard = Guard(self._sums["train"])
        self._logged_step = 0
        self._steps = 0
        self._inner_loop: InnerLoop | None = None
        self._complained = set[str]()

    def setup(self, stage: str) -> None:
        """Count the training images, and their labels for a model that wants labels, and start the decoder from them.

        Parameters are not sharded yet, and a checkpoint is loaded later.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and hasattr(data, "describe"):
            self.train_images = data.describe()["train"]
        if stage == "fit" and self.wants_labels and hasattr(data, "labels"):
            self.count_labels(data.labels("train"))
        if stage == "fit" and hasattr(data, "examples"):
            self.start_decoder(data.examples(START_IMAGES, "train")[0])

    def on_fit_start(self) -> None:
        self._inner_loop = None
        # Every rank draws the noise of the whole batch from the same seed and uses the rows of its own images.
        torch.manual_seed(self.trainer.strategy.broadcast(torch.initial_seed()))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        share = self._share_of(batch)
        with unchecked(), batch_shares.within_share(share):
            loss, values = self.losses(self.inputs(batch), self.weights())
        if share is not None:
            loss, values = loss * share.weight, share.counted(values)
        self.record_step(loss, values)
        return loss

    def losses(self, inputs: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step minimises, (), and the logged values (B,) by name, the objective of each image as ``loss``.

        It minimises the mean objective plus the mean loss of the critics, whose gradients do not meet. The whole
        forward pass of a step as a pure function, so that ``torch.compile`` can take it.
        """
        terms = self.loss_terms(*inputs)
        objective = self.objective(terms, weights)
        values = {"loss": objective, **terms.named()}
        if terms.critic is None:
            return objective.mean(), values
        return (objective + terms.critic).mean(), {**values, "critic": terms.critic}

    def compile_losses(self, mode: str | None = None) -> None:
        """Compile ``losses`` for training. State-dict keys do not change.

        ``mode`` is passed to ``torch.compile``; ``reduce-overhead`` uses CUDA graphs on a GPU.
        """
        compiled = torch.compile(self.losses, mode=mode)

        def losses(inputs: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
            # Python numbers would be compiled in as constants, so that each new value triggers a recompilation. A CPU
            # tensor would rule out CUDA graphs.
            tensors = {name: torch.as_tensor(weight, device=inputs[0].device) for name, weight in weights.items()}
            loss, values = compiled(inputs, tensors)
            if mode is None:
                return loss, values
            # The next replay of the graph overwrites its outputs, which are needed until they are logged.
            return loss.clone(), {name: value.detach().clone() for name, value in values.items()}

        self.losses = losses  # type: ignore[method-assign]

    def record_step(self, loss: Tensor, values: Mapping[str, Tensor]) -> None:
        """Accumulate a step's loss () and values (B,) on the device until the next log point."""
        self.guard.record_loss(self, loss, values)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.update_statistics()  # before the guard, which restores buffers if it skips the step
        for name in self.waiting_critics():  # zeros would spend Adam's bias correction before the first real step
            self.get_submodule(name).zero_grad()
        self.guard.record_gradients(self, optimizer)

    def on_train_start(self) -> None:
        if self.wants_images and not self.global_step:  # here, a checkpoint has been loaded with every strategy
            self._start_from(self.trainer.datamodule)  # type: ignore[attr-defined]
        self._inner_loop, reason = self._choose_inner_loop()
        steps = self.trainer.estimated_stepping_batches
        self._steps = int(steps) if 0 < steps < math.inf else 0
        self.guard.start(self)
        if reason is not None and self.trainer.is_global_zero:
            log.info("stepping    not %s: %s", self.stepping, reason)

    @torch.no_grad()
    def _start_from(self, data: Any) -> None:
        """Start from images of a data module; without any, warn that the model does not."""
        if hasattr(data, "examples"):
            self.start_from(data.examples(self.wants_images, "train")[0].to(self.device))
        elif self.trainer.is_global_zero:
            given = (
                "there is no data module" if data is None else f"{type(data).__name__} has no examples(count, split)"
            )
            log.warning("warning     %s starts from random numbers, because %s", type(self).__name__, given)

    def progress(self) -> float:
        """Share of the training steps taken, 0 if their number is unknown."""
        return self.global_step / self._steps if self._steps else 0.0

    def _choose_inner_loop(self) -> tuple[InnerLoop | None, str | None]:
        """The inner loop, if one is used, and otherwise the reason why ``stepping`` cannot be honoured."""
        if self.stepping == "lightning":
            return None, None
        reason = reason_against(self.trainer, self, Loop)
        return (InnerLoop(self.trainer), None) if reason is None else (None, reason)

    def on_train_batch_end(self, *arguments: Any) -> None:
        if self._inner_loop is not None:
            self._inner_loop.run()

    def on_train_end(self) -> None:
        self._inner_loop = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_inner_loop": None}  # it belongs to a trainer, which a copy does not have

    # logging and checkpoints -----------------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[L.Callback]:
        present = [] if trainer_of(self) is None else self.trainer.callbacks  # type: ignore[attr-defined]
        return [] if any(isinstance(callback, _LogTraining) for callback in present) else [_LogTraining()]

    def log_training_if_due(self) -> None:
        """Log every ``log_every_n_steps`` optimiser steps, once per step even if gradients are accumulated."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self.global_step % every == 0 and self.global_step != self._logged_step:
            self._logged_step = self.global_step
            self._log_training()

    def _log_training(self) -> None:
        """Log the means since the last log point. The only place where training synchronises with the device."""
        self.check_finite()
        weights = {f"train/{name}": weight for name, weight in self.weights().items()}
        statistics = {f"train/{name}": value for name, value in self.statistics().items()}
        groups = {group.get("name", "model"): group for group in self.trainer.optimizers[0].param_groups[::-1]}
        rates = {"train/lr" + ("" if name == "model" else f"_{name}"): group["lr"] for name, group in groups.items()}
        self._log({**self._means("train"), **weights, **statistics, **rates})
        self._sums["train"].reset()

    def check_finite(self) -> None:
        """Raise NonFiniteLossError if a loss or gradient since the last check was non-finite."""
        self.guard.check(self)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.sanity_checking or not self.trainer.is_global_zero:
            return
        for name, sentence in self.complaints(self.trainer.callback_metrics).items():
            if name not in self._complained:
                self._complained.add(name)
                log.warning("warning     %s", sentence)

    def on_train_epoch_end(self) -> None:
        self.check_finite()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()
        if not torch.isfinite(whole(torch.nn.utils.get_total_norm(self.parameters()))):
            raise NonFiniteLossError(f"weights are not finite after step {self.global_step}; {REMEDY}")
        for logger in self.trainer.loggers:  # a resumed run relies on what was logged before this checkpoint
            logger.save()
        checkpoint["planned_steps"] = self._planned_steps
        checkpoint["critics"] = settings_by_group(self.critics)
        checkpoint["model_class"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["skipped_steps"] = self.guard.state_dict()
        checkpoint["training_sums"] = self._sums["train"].gathered_states(self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if trainer_of(self) is None:  # ``load_from_checkpoint`` only needs the weights
            return
        # Some strategies create the schedule before they call this hook.
        self._plan(checkpoint.get("planned_steps"), self._planned_steps)
        self._logged_step = checkpoint["global_step"]
        adapt(checkpoint, self._optimizer, settings_by_group(self.critics))
        if "skipped_steps" in checkpoint:
            self.guard.load_state_dict(checkpoint["skipped_steps"])
        if "training_sums" in checkpoint:
            mine = state_of_rank(checkpoint["training_sums"], self.global_rank, self.trainer.world_size)
            self._sums["train"].load_state_dict(mine, self.device)


class _LogTraining(L.Callback):
    """Logs before checkpoints are saved, which the module's own hook would not: a resumed run must not log twice."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        assert isinstance(pl_module, Loop)
        pl_module.log_training_if_due()
