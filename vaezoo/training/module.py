"""The LightningModule behind every autoencoder: training, validation and test steps, logging and optimisers."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from vaezoo import metrics
from vaezoo.config.errors import ConfigError, NonFiniteLossError
from vaezoo.distributed import batch_shares
from vaezoo.distributed.batch_shares import BatchShare
from vaezoo.metrics.codebooks import codes_used, perplexity
from vaezoo.nn.image_api import unchecked
from vaezoo.nn.likelihoods import Likelihood
from vaezoo.nn.posteriors import Posterior
from vaezoo.training import fsdp
from vaezoo.training.fsdp import whole
from vaezoo.training.lightning_internals import trainer_of
from vaezoo.training.nonfinite import DIVERGED, WEIGHTS_KEPT, Guard
from vaezoo.training.optimizers import (
    CRITIC,
    Groups,
    adapt,
    check_settings,
    example_states,
    make_optimizer,
    make_scheduler,
    parameter_groups,
)
from vaezoo.training.rng import random_states, restore
from vaezoo.training.running_means import RunningMeans, state_of_rank
from vaezoo.training.stepping import InnerLoop, reason_against
from vaezoo.training.terms import Batch, Terms, Weights

log = logging.getLogger(__name__)

EVALUATION_SEED = 0
"""Seed of the noise in every validation and test, so that epochs, models and runs are compared on the same draws."""

REMEDY = f"{WEIGHTS_KEPT}; {DIVERGED}"


class Loop(L.LightningModule):
    """Trains a model by its ``loss_terms`` and ``objective``, and logs metrics under the same names for every model.

    Scalars are ``{train,val,test}/{loss,recon,kl,elbo,...}``, in nats per image. ``loss`` is the objective; ``elbo`` is
    always computed at beta = 1. Training scalars are means over the images since the last log point, those of
    validation and test are exact means over the whole set.
    """

    selection = ("val/recon", "min")
    """Metric that selects ``best.ckpt``, and "min" or "max"; it must not depend on the weights of the objective."""

    stepping = "fast"
    """``lightning`` runs each batch through Lightning's loop, ``fast`` uses ``InnerLoop``. Only the speed differs."""

    critics: Sequence[str] = ()
    """Names of submodules that play against the rest of the model: a parameter group of their own."""

    wants_labels = False
    """Whether ``loss_terms`` takes the labels of the images as its second argument."""

    train_images: int | None = None
    """Number of training images, for statistics that depend on it; None if unknown."""

    likelihood: Likelihood
    latent_statistics: dict[str, Tensor]
    """From the last evaluation: ``kl`` (D,) in nats, if there is one for each dimension, and ``variance`` (D,) of
    posterior means; empty without a posterior. ``usage`` (K,) of a codebook as ``usage`` or ``usage_NAME``."""

    def __init__(self, *, optimizer: dict[str, Any] | None, scheduler: dict[str, Any] | None) -> None:
        super().__init__()
        self.latent_statistics = {}
        self._optimizer = optimizer or {"name": "Adam", "lr": 1e-3}
        self._scheduler = scheduler
        check_settings(self._optimizer, scheduler)
        self._sums = {"train": RunningMeans(), "val": RunningMeans(), "test": RunningMeans()}
        self.guard = Guard(self._sums["train"])
        self._logged_step = 0
        self._steps = 0
        self._planned_steps: int | None = None
        self._inner_loop: InnerLoop | None = None

    # what a model implements -----------------------------------------------------------------------------------------

    def loss_terms(self, x: Tensor) -> Terms:
        """Unweighted loss terms in nats per image, from draws of the code: (B, C, H, W) -> Terms.

        A model that ``wants_labels`` gets the labels (B,) or (B, F) as its second argument.
        """
        raise NotImplementedError

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        """The training objective of each image in nats, with the current ``weights()``: (B,)."""
        raise NotImplementedError

    def formula(self) -> str:
        """The objective as text, such as ``recon + 4 kl``."""
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """Weights of the objective at the current optimiser step, by name; they are logged."""
        return {}

    def critic_settings(self) -> dict[str, Any]:
        """Optimiser settings of the critics' parameter group; the others are those of the model."""
        return {}

    def progress(self) -> float:
        """Share of the training steps taken, 0 if their number is unknown."""
        return self.global_step / self._steps if self._steps else 0.0

    def update_statistics(self) -> None:
        """Called before each optimiser step, for buffers that follow the encoder, such as a codebook's averages."""

    @property
    def wants_images(self) -> int:
        """Number of training images that ``start_from`` wants before the first step, 0 for none or if it was called.

        A model that starts from images remembers in a buffer that it has started, so that it does so once.
        """
        return 0

    def start_from(self, images: Tensor) -> None:
        """Set parameters that start from training images, (B, C, H, W)."""

    def posterior(self, x: Tensor) -> Posterior | None:
        """q(z|x), or None for a deterministic encoder: (B, C, H, W) -> a distribution with a mean of (B, D).

        Accepts a single image too: (C, H, W) -> (D,). Differentiable.
        """
        return None

    def encode(self, x: Tensor) -> Tensor:
        """The code of each image: (B, C, H, W) -> (B, D)."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """Decoded images: (B, D) -> (B, C, H, W), pixels in [0, 1]."""
        raise NotImplementedError

    # training --------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Count the training images."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and hasattr(data, "describe"):
            self.train_images = data.describe()["train"]

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

    def _share_of(self, batch: Batch) -> BatchShare | None:
        if trainer_of(self) is None:
            return None
        return batch_shares.share_of(batch, self.global_rank, self.trainer.world_size)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The arguments of ``loss_terms`` in a batch: images (B, C, H, W), and labels if the model wants them."""
        return tuple(batch[: 1 + self.wants_labels])

    def losses(self, inputs: tuple[Tensor, ...], weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """What a step minimises, (), and the logged values (B,) by name, the objective of each image as ``loss``.

        It minimises the mean objective plus the mean loss of the critics, whose gradients do not meet. The whole
        forward pass of a step as a pure function, so that ``torch.compile`` can take it.
        """
        terms = self.loss_terms(*inputs)
        objective = self.objective(terms, weights)
        values = {"loss": objective, **_named(terms)}
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
        groups = self.trainer.optimizers[0].param_groups
        rates = {"train/lr" + ("_critic" if group.get("name") == CRITIC else ""): group["lr"] for group in groups[::-1]}
        self._log({**self._means("train"), **weights, **rates})
        self._sums["train"].reset()

    def check_finite(self) -> None:
        """Raise NonFiniteLossError if a loss or gradient since the last check was non-finite."""
        self.guard.check(self)

    def on_train_epoch_end(self) -> None:
        self.check_finite()

    # validation and test ---------------------------------------------------------------------------------------------

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.inputs(batch), self._sums["val"], self._share_of(batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.inputs(batch), self._sums["test"], self._share_of(batch))

    def on_validation_epoch_start(self) -> None:
        self.check_finite()  # else validation would report a failure of training as its own
        self._start_evaluation("val")

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def on_validation_epoch_end(self) -> None:
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._end_evaluation("test")

    @unchecked()
    def _evaluate(self, inputs: tuple[Tensor, ...], sums: RunningMeans, share: BatchShare | None = None) -> None:
        x = inputs[0]
        with batch_shares.within_share(share):
            terms = self.loss_terms(*inputs)
        code = self.encode(x) if terms.code is None else terms.code
        mse = metrics.mse(x, self.decode(code))
        # A biased statistic of a batch has no mean over batches, and neither has an objective that contains it.
        values = {} if terms.batch_statistics else {"loss": self.objective(terms, self.weights())}
        values |= {name: value for name, value in _named(terms).items() if name not in terms.batch_statistics}
        values |= {"mse": mse, "psnr": metrics.psnr(mse)}
        if terms.has_rate:
            values |= {"elbo": terms.elbo, "supported": self.likelihood.supports(x)}
        if terms.has_posterior and terms.kl_by == "dimension":
            values["kl_of_dimensions"] = terms.kl
        if terms.has_posterior:
            values |= {"mean": code, "square": code.double().square()}
        values |= {f"usage_{name}".rstrip("_"): counts for name, counts in terms.usage.items()}
        sums.add(values if share is None else share.counted(values))

    def _start_evaluation(self, stage: str) -> None:
        self._sums[stage].reset()
        self._random_states = random_states(self.device)
        torch.manual_seed(EVALUATION_SEED)

    def _end_evaluation(self, stage: str) -> None:
        restore(self._random_states, self.device)
        means = self._means(stage)
        prefix = f"{stage}/"
        statistics = {"kl": means.pop(prefix + "kl_of_dimensions", None)}
        if f"{prefix}mean" in means:
            variance = means.pop(prefix + "square") - means.pop(prefix + "mean").square()
            statistics["variance"] = variance
            means[prefix + "active_units"] = metrics.active_units(variance)
        if means.pop(prefix + "supported", 0) == 1 and self.likelihood.discrete:
            means[prefix + "bits_per_dim"] = metrics.bits_per_dim(-means[prefix + "elbo"], self.pixels)
        for name in [name for name in means if name.startswith(f"{prefix}usage")]:
            statistics[name.removeprefix(prefix)] = counts = means.pop(name)
            book = name.removeprefix(f"{prefix}usage")
            means |= {f"{prefix}perplexity{book}": perplexity(counts), f"{prefix}codes_used{book}": codes_used(counts)}
        self.latent_statistics = {name: value for name, value in statistics.items() if value is not None}
        scalars = _scalars(means)
        wrong = [name for name, value in scalars.items() if not math.isfinite(value)]
        if wrong:
            raise NonFiniteLossError(f"{wrong[0]} is not finite after step {self.global_step}; {REMEDY}")
        trains = self.trainer.state.fn == TrainerFn.FITTING
        self._log(scalars, to_loggers=trains and not self.trainer.sanity_checking)
        if not trains:  # ``trainer.validate`` and ``trainer.test`` return and print only what ``log_dict`` was given
            # The values are equal on all ranks; their maximum is exact, whereas a mean would be rounded.
            self.log_dict(scalars, sync_dist=self.trainer.world_size > 1, reduce_fx="max")

    @property
    def pixels(self) -> int:
        """Channels times height times width: the number of terms in the reconstruction sum."""
        raise NotImplementedError

    # logging, optimisers and checkpoints -----------------------------------------------------------------------------

    def _means(self, stage: str) -> dict[str, Tensor]:
        def add_up(total: Tensor) -> Tensor:
            return self.trainer.strategy.reduce(total, reduce_op="sum")

        return {f"{stage}/{name}": value for name, value in self._sums[stage].means(add_up).items()}

    def _log(self, values: Mapping[str, Tensor | float], *, to_loggers: bool = True) -> None:
        """Pass scalars to callbacks, and to loggers with the current optimiser step.

        Lightning's own ``log`` is not needed, because the values are already equal on all ranks.
        """
        scalars = _scalars(values)
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in scalars.items()})
        if to_loggers:
            for logger in self.trainer.loggers:
                logger.log_metrics({"epoch": self.current_epoch, **scalars}, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = make_optimizer(self._groups(), self._optimizer, fused=self._can_be_fused())
        if self._scheduler is None:
            return optimizer
        scheduler = make_scheduler(optimizer, self._scheduler, self._steps_to_plan())
        scheduler.setdefault("frequency", self._epochs_between_validations(scheduler))
        self._refuse_longer_than(scheduler)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}  # type: ignore[return-value]

    def _groups(self) -> Groups:
        return parameter_groups(self, self.critics, self.critic_settings())

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
            clip(group["params"], gradient_clip_val)

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
        if type(self).configure_optimizers is not Loop.configure_optimizers or single_group:
            return {}
        return example_states(self._groups(), self._optimizer, self._scheduler)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()
        if not torch.isfinite(whole(torch.nn.utils.get_total_norm(self.parameters()))):
            raise NonFiniteLossError(f"weights are not finite after step {self.global_step}; {REMEDY}")
        for logger in self.trainer.loggers:  # a resumed run relies on what was logged before this checkpoint
            logger.save()
        checkpoint["planned_steps"] = self._planned_steps
        checkpoint["critic_settings"] = self.critic_settings()
        checkpoint["model_class"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["skipped_steps"] = self.guard.state_dict()
        checkpoint["training_sums"] = self._sums["train"].gathered_states(self.trainer.world_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if trainer_of(self) is None:  # ``load_from_checkpoint`` only needs the weights
            return
        # Some strategies create the schedule before they call this hook.
        self._plan(checkpoint.get("planned_steps"), self._planned_steps)
        self._logged_step = checkpoint["global_step"]
        adapt(checkpoint, self._optimizer, self.critic_settings())
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


def _named(terms: Terms) -> dict[str, Tensor]:
    """The terms by the names under which they are logged, each (B,); ``kl`` is the rate, and levels are numbered."""
    kl = {"kl": terms.rate} if terms.has_rate else {}
    if terms.kl_by == "level":
        kl |= {f"kl_{level}": column for level, column in enumerate(terms.kl.unbind(1), 1)}
    return {"recon": terms.recon, **kl, **terms.penalties}


def _scalars(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """The values rounded to float32, copied from the device in one transfer."""
    device = next((value.device for value in values.values() if isinstance(value, Tensor)), None)
    rounded = [torch.as_tensor(value, dtype=torch.float32, device=device) for value in values.values()]
    return dict(zip(values, torch.stack(rounded).tolist(), strict=True))
