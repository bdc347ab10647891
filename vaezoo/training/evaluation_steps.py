"""Validation and test steps of every model: exact means over whole sets, on the same noise each time."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from vaezoo import metrics
from vaezoo.config.errors import NonFiniteLossError
from vaezoo.config.shapes import is_table
from vaezoo.distributed import batch_shares
from vaezoo.distributed.batch_shares import BatchShare
from vaezoo.metrics.codebooks import codes_used, perplexity
from vaezoo.nn.image_api import unchecked
from vaezoo.training.lightning_internals import trainer_of
from vaezoo.training.model_interface import ModelInterface
from vaezoo.training.nonfinite import DIVERGED, WEIGHTS_KEPT
from vaezoo.training.rng import random_states, restore
from vaezoo.training.running_means import RunningMeans
from vaezoo.training.terms import Batch

EVALUATION_SEED = 0
"""Seed of the noise in every validation and test, so that epochs, models and runs are compared on the same draws."""

REMEDY = f"{WEIGHTS_KEPT}; {DIVERGED}"


class EvaluationSteps(ModelInterface):
    """Computes and logs ``{val,test}/{loss,recon,kl,elbo,...}``, in nats per image; ``elbo`` is always at beta = 1."""

    latent_statistics: dict[str, Tensor]
    """From the last evaluation: ``kl`` in nats, (D,) if there is one for each dimension, or (L,) for each level, and
    ``variance`` (D,) of posterior means; empty without a posterior. ``usage`` (K,) of a codebook as ``usage`` or
    ``usage_NAME``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.latent_statistics = {}
        self._sums = {"train": RunningMeans(), "val": RunningMeans(), "test": RunningMeans()}

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
        model = self.given(inputs[1]) if self.wants_labels else self
        with batch_shares.within_share(share):
            terms = self.loss_terms(*inputs)
            corrupted = model._corrupted(x)
        code = terms.noiseless_code
        code = model.encode(x) if code is None else code
        mse = metrics.mse(x, model.decode(code))
        # A biased statistic of a batch has no mean over batches, and neither has an objective that contains it.
        values = {} if terms.batch_statistics else {"loss": self.objective(terms, self.weights())}
        values |= {name: value for name, value in terms.named().items() if name not in terms.batch_statistics}
        values |= corrupted | {"mse": mse} | ({} if is_table(x.shape[1:]) else {"psnr": metrics.psnr(mse)})
        if terms.has_rate:
            elbo = {"elbo_given_label": terms.elbo} if self.is_conditional else {"elbo": terms.elbo}
            values |= {**elbo, "supported": self.likelihood.supports(x)}
        if terms.has_posterior and terms.kl_by in ("dimension", "level"):
            values["kl_of_dimensions"] = terms.kl
        if terms.has_posterior:
            values |= {"mean": code, "square": code.double().square()}
        values |= {f"usage_{name}".rstrip("_"): counts for name, counts in terms.usage.items()}
        sums.add(values if share is None else share.counted(values))

    def _corrupted(self, x: Tensor) -> dict[str, Tensor]:
        """recon from corrupted images by its name, if there is a corruption; leaves the noise for codes as it is."""
        if self.corruption is None:
            return {}
        states = random_states(self.device)
        found = {"recon_corrupted": self.recon_corrupted(x)}
        restore(states, self.device)
        return found

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
        supported = means.pop(prefix + "supported", 0) == 1
        if supported and self.likelihood.discrete and not self.is_conditional:
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

    def check_finite(self) -> None:
        """Raise NonFiniteLossError if training has met a loss or gradient that is not finite."""

    def _share_of(self, batch: Batch) -> BatchShare | None:
        if trainer_of(self) is None:
            return None
        return batch_shares.share_of(batch, self.global_rank, self.trainer.world_size)

    # logging ---------------------------------------------------------------------------------------------------------

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


def _scalars(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """The values rounded to float32, copied from the device in one transfer."""
    device = next((value.device for value in values.values() if isinstance(value, Tensor)), None)
    rounded = [torch.as_tensor(value, dtype=torch.float32, device=device) for value in values.values()]
    return dict(zip(values, torch.stack(rounded).tolist(), strict=True))
