"""Handling of non-finite losses and gradients: training stops or skips the step, and the message names the images."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from vaezoo.config.errors import NonFiniteLossError, RunError
from vaezoo.runs.files import replacing
from vaezoo.training.finite_watch import NonFiniteStep, Watch, any_nonfinite
from vaezoo.training.lightning_internals import trainer_of
from vaezoo.training.optimizers import CRITIC
from vaezoo.training.running_means import RunningMeans

log = logging.getLogger(__name__)

WEIGHTS_KEPT = "previously saved weights are kept"
DIVERGED = "try a lower model.optimizer.lr, trainer.gradient_clip_val=1 or trainer.precision=32-true"
ONE_BATCH = "set trainer.on_nonfinite=skip to skip such batches"

MAX_CONSECUTIVE_SKIPS = 10
"""Training stops after this many skipped steps in a row: then the cause is not a single batch."""

MAX_WARNINGS = 3
"""Skipped steps that get a warning of their own and whose batches are saved; later ones are only counted."""

MAX_NAMED_IMAGES = 8
"""Maximum number of images listed in a message."""


class Guard:
    """Checks losses and gradients for inf and NaN, and acts as ``trainer.on_nonfinite`` requires.

    ``stop`` checks at log points, at epoch ends and before checkpoints, so that no step synchronises with the device.
    In a single process on the CPU it checks every loss as it comes, and the gradients only when a loss is non-finite:
    a non-finite gradient makes the next loss non-finite. ``skip`` checks, and so synchronises, at every step; skipped
    steps leave the weights unchanged and do not enter the logged means.
    """

    def __init__(self, sums: RunningMeans) -> None:
        self.skipped = 0  # steps of the whole run
        self._consecutive = 0
        self._sums = sums
        self._watch = Watch()
        self._pending: list[Mapping[str, Tensor]] = []  # of batches whose step is not decided yet
        self._buffers: dict[str, Tensor] | None = None  # before this step
        self._eager = False

    def start(self, model: L.LightningModule) -> None:
        """Reset the state that an earlier training of this model left behind."""
        self._watch, self._pending, self._buffers = Watch(), [], None
        self._eager = not skips_nonfinite(model.trainer) and checks_eagerly(model)
        if skips_nonfinite(model.trainer):
            self._buffers = _copies(dict(model.named_buffers()))

    def record_loss(self, model: Any, loss: Tensor, values: Mapping[str, Tensor]) -> None:
        """Record a batch: the loss () and the named per-image values, each (B,)."""
        trainer = trainer_of(model)
        if trainer is None:  # ``training_step`` called without a trainer
            self._sums.add(values)
            return
        wrong = self._eager and not math.isfinite(loss.item())
        if wrong:
            self._record_last_gradients(model)
        elif self._eager:
            self._watch.forget(keep=trainer.global_step)
        elif self._watch.is_full(trainer.global_step):
            self.check(model)
        self._watch.record_loss(trainer.global_step, trainer.fit_loop.epoch_loop.batch_idx, loss, values)
        if skips_nonfinite(trainer):
            self._pending.append(values)
        else:
            self._sums.add(values)
        if wrong:
            self._raise(model)

    def record_gradients(self, model: Any, optimizer: Optimizer) -> None:
        """Check gradients before the optimiser steps; drop them if the step must be skipped."""
        if not self._eager and not uses_loss_scaling(model.trainer):
            self._watch.record_gradient(any_nonfinite(gradients_of(optimizer)))
        if skips_nonfinite(model.trainer):
            self._take_or_skip(model, optimizer)

    def check(self, model: Any) -> None:
        """Raise NonFiniteLossError if a loss or gradient since the last check was non-finite. Collective."""
        if self._eager:
            self._record_last_gradients(model)
        self._raise(model)

    def _record_last_gradients(self, model: Any) -> None:
        """Check the gradients of the last step taken."""
        if model.trainer.state.fn == TrainerFn.FITTING and not uses_loss_scaling(model.trainer):
            gradients = [each for optimizer in model.trainer.optimizers for each in gradients_of(optimizer)]
            self._watch.record_gradient(any_nonfinite(gradients))

    def _raise(self, model: Any) -> None:
        found = self._first(model)
        if found is not None:
            raise NonFiniteLossError(describe(model.trainer, found))

    def _first(self, model: Any) -> NonFiniteStep | None:
        if trainer_of(model) is None or model.trainer.world_size == 1:
            return self._watch.first_nonfinite()
        return self._watch.first_nonfinite(lambda place: model.trainer.strategy.reduce(place, reduce_op="min"))

    def _take_or_skip(self, model: Any, optimizer: Optimizer) -> None:
        found, waiting = self._first(model), self._pending
        self._pending = []
        if found is None:
            self._consecutive = 0
            for values in waiting:
                self._sums.add(values)
            self._buffers = _copies(dict(model.named_buffers()))
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # torch optimisers skip parameters whose grad is None and keep their state
        if self._buffers is not None:
            _restore(dict(model.named_buffers()), self._buffers)
        self._count(model.trainer, found)

    def _count(self, trainer: Any, found: NonFiniteStep) -> None:
        """Count a skipped step and warn; NonFiniteLossError if the limit is exceeded."""
        self.skipped, self._consecutive = self.skipped + 1, self._consecutive + 1
        most, too_many_in_a_row = trainer.max_skipped, self._consecutive >= MAX_CONSECUTIVE_SKIPS
        if self.skipped > most or too_many_in_a_row:
            limit = f"{self._consecutive} in a row" if too_many_in_a_row else f"more than trainer.max_skipped={most}"
            raise NonFiniteLossError(f"{describe(trainer, found)}; {self.skipped} steps skipped, {limit}")
        if self.skipped <= MAX_WARNINGS:
            last = ", and later ones are only counted" if self.skipped == MAX_WARNINGS else ""
            sentence = describe(trainer, found, remedy=False)
            if trainer.is_global_zero:
                log.warning(
                    "warning     %s; the step is skipped (%d of at most %d)%s", sentence, self.skipped, most, last
                )

    def state_dict(self) -> dict[str, int]:
        """Counts of skipped steps, in total and in a row, for checkpoints."""
        return {"skipped": self.skipped, "in_a_row": self._consecutive}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore counts that ``state_dict`` returned."""
        self.skipped, self._consecutive = state["skipped"], state["in_a_row"]


def checks_eagerly(model: Any) -> bool:
    """Whether reading the loss costs nothing: one process on a CPU."""
    return bool(model.device.type == "cpu" and model.trainer.world_size == 1)


def uses_loss_scaling(trainer: Any) -> bool:
    """Whether losses are scaled: then infinite gradients are normal, and the gradient scaler skips those steps."""
    return bool(trainer.precision == "16-mixed")


def skips_nonfinite(trainer: Any) -> bool:
    """Whether a trainer skips non-finite steps, a setting that only ``vaezoo.training.trainer.Trainer`` has."""
    return getattr(trainer, "on_nonfinite", "stop") == "skip"


def gradients_of(optimizer: Optimizer) -> list[Tensor]:
    """The gradients of an optimiser's parameters, without those that are None."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def describe(trainer: Any, found: NonFiniteStep, *, remedy: bool = True) -> str:
    """Save the batch and describe the failure in one sentence. Collective: every rank must call it."""
    values = [_gathered(trainer, each) for each in found.values]
    terms = {name: torch.cat([each[name] for each in values]) for name in values[0]}
    wrong = {name: value.isfinite().logical_not() for name, value in terms.items()}
    bad = _images_to_blame(wrong)
    again = _reloaded(trainer, found.batches)
    saved = _save(trainer, found, terms, again)
    chosen = bad if bad.any() else torch.ones_like(bad)
    images = f"{int(chosen.sum())} of {len(chosen)} images ({_named(again, chosen)})"
    blame = " and ".join(name for name in terms if name != "loss" and wrong[name].any()) or "the objective"
    if found.what == "loss":
        sentence = f"the loss is not finite at step {found.step}, because of {blame} of {images}"
    else:
        sentence = f"the gradient is not finite at step {found.step}, though the loss is, because of {images}"
    if not remedy:
        return sentence + saved
    advice = f"look at these images, or {ONE_BATCH}" if 0 < bad.sum() < len(bad) else f"{DIVERGED}, or {ONE_BATCH}"
    return f"{sentence}{saved}; {WEIGHTS_KEPT}; {advice}"


def _images_to_blame(wrong: Mapping[str, Tensor]) -> Tensor:
    """The images whose own terms are not finite: (B,), from (B,) by name.

    The loss of a critic and statistics of a batch are not finite for other images too, whose codes they combine with
    those of the image that is the cause.
    """
    of_terms = [values for name, values in wrong.items() if name not in ("loss", CRITIC) and values.any()]
    of_images = [values for values in of_terms if not values.all()]
    return torch.stack(of_images or of_terms or list(wrong.values())).any(0)


def _named(again: Any, chosen: Tensor) -> str:
    """The chosen images: indices in the training split, and file names where there are any."""
    places = chosen.nonzero().flatten()[:MAX_NAMED_IMAGES].tolist()
    more = int(chosen.sum()) - len(places)
    tail = f" and {more} more" if more > 0 else ""
    if again is None or len(again.positions) != len(chosen):
        return f"number {', '.join(map(str, places))}{tail} of the batch"
    text = f"index {', '.join(str(int(again.positions[place])) for place in places)}{tail} of the training split"
    return text if again.names is None else f"{text}: {', '.join(again.names[place] for place in places)}"


def _reloaded(trainer: Any, batches: list[int]) -> Any:
    """The images of these batches of the current epoch, loaded again; None if the datamodule cannot do that."""
    ask = getattr(getattr(trainer, "datamodule", None), "training_batches", None)
    return None if ask is None else ask(batches)


def _save(trainer: Any, found: NonFiniteStep, terms: Mapping[str, Tensor], again: Any) -> str:
    """Save the batch to the run folder, if there is one; return a clause with its path for the message."""
    folder = Path(trainer.default_root_dir)
    if not (folder / "config.yaml").is_file():
        return ""
    path = folder / "nonfinite" / f"step={found.step:08d}.pt"
    content = {"what": found.what, "step": found.step, "epoch": trainer.current_epoch, "batches": found.batches}
    content |= {"terms": dict(terms)}
    if again is not None:
        content |= {"x": again.x.cpu(), "y": again.y.cpu(), "indices": again.positions}
    if trainer.is_global_zero:
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as new:
                torch.save(content, new)
        except (OSError, RuntimeError, RunError) as error:  # torch raises RuntimeError when the disk is full
            return f"; the batch cannot be saved ({' '.join(str(error).split())[:80]})"
    return f"; the batch is saved in {path}"


def _gathered(trainer: Any, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of all ranks' images on the CPU, in the order of the whole batch."""
    own = {name: value.cpu() for name, value in values.items()}
    if trainer.world_size == 1:
        return own
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, own)
    return {name: torch.cat([part[name] for part in parts]) for name in own}


def _copies(buffers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in buffers.items()}


def _restore(buffers: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    for name, buffer in buffers.items():
        buffer.copy_(before[name])
