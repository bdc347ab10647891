"""A whole optimiser step as a CUDA graph: one launch for what would be a hundred. It knows no variant of a model."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from vaezoo.models.finite import any_wrong
from vaezoo.models.guard import gradients_of, skips
from vaezoo.models.image_api import unchecked
from vaezoo.models.inner_loop import InnerLoop

log = logging.getLogger(__name__)

WARMUP = 3
"""Steps that are taken as usual, on a stream of their own, before one is captured: libraries set themselves up."""


class CapturingLoop(InnerLoop):
    """``InnerLoop`` that replays forward pass, backward pass and optimiser as one CUDA graph.

    Each batch is copied to where the graph reads, and so are the objective's weights and the learning rate when they
    change; what the step came to is copied out, to be logged as ever. Batches below the usual size, as the last one of
    an epoch often is, take the usual way, and so do all where anything else about the optimiser has changed since. The
    optimiser and its checkpoints are as without a graph; gradients are the graph's own and not for callbacks to read.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer)
        self.model = self.trainer.lightning_module
        self.size = self.taken = 0  # images in the batches that are captured, and how many of those there were
        self.replay: Callable[[], None] | None = None
        self.refused = False

    def _forward_and_update(self, batch: Any, index: int) -> Tensor:
        x = batch[0]
        if len(x) > self.size and self.replay is None:
            self._make_room(x)
        if len(x) != self.size or self.refused:
            return super()._forward_and_update(batch, index)
        self._read(x)
        self.taken += 1
        if self.taken <= WARMUP:
            with side_stream(x.device):
                self._compute(nullcontext())
        elif self.replay is None:
            self._capture()
        elif self.settings != _settings(self.optimizer):
            self._refuse("settings of the optimiser change, or which weights it moves")
        if self.refused:
            return super()._forward_and_update(batch, index)
        if self.replay is not None:
            self.replay()
        loss, values = self.loss.clone(), self.values.clone()
        self.model.account(loss, dict(zip(self.names, values, strict=True)))
        self.model.guard.keep_flag(self.wrong.clone())
        return loss

    def _make_room(self, x: Tensor) -> None:
        """Have places for images of this shape and for the numbers that change, from where a step reads."""
        self.size, self.taken = len(x), 0
        self.x = x.clone()
        self.weights, self.rates = list(self.model.weights()), list(_rates(self.optimizer))
        self.seen = self._numbers()
        self.room = {name: torch.tensor(value, device=x.device) for name, value in self.seen.items()}

    def _read(self, x: Tensor) -> None:
        """Put a batch and this step's numbers into their places."""
        self.x.copy_(x)
        for name, value in self._numbers().items():
            if self.seen.get(name) != value and name in self.room:
                self.seen[name] = value
                self.room[name].fill_(value)

    def _numbers(self) -> dict[str, float]:
        return {**self.model.weights(), **_rates(self.optimizer)}

    def _compute(self, rates: Any) -> None:
        """The step itself, from the places that it reads to those that hold what it came to."""
        weights = {name: self.room[name] for name in self.weights}
        with unchecked(), self.trainer.precision_plugin.train_step_context():
            loss, values = self.model.losses(self.x, weights)
        with rates:
            self._update(loss, self._look)
        self.loss, self.names = loss.detach(), list(values)
        self.values = torch.stack([value.detach() for value in values.values()])

    def _look(self) -> None:
        self.wrong = any_wrong(gradients_of(self.optimizer))

    def _capture(self) -> None:
        """Record a step, which computes nothing yet."""
        self.settings = _settings(self.optimizer)
        rates = [self.room[name] for name in self.rates]
        try:
            self.replay = capture(lambda: self._compute(reading(self.optimizer, rates)), self.x.device)
        except RuntimeError as error:  # what CUDA or a library says
            self._refuse(str(error))

    def _refuse(self, reason: str) -> None:
        self.refused = True
        log.warning("warning     continuing without a CUDA graph: %s", reason)


def why_not_captured(trainer: L.Trainer, model: L.LightningModule) -> str | None:
    """Why the steps of a training that ``InnerLoop`` can run cannot be captured, in words; None where they can."""
    groups = trainer.optimizers[0].param_groups
    if skips(trainer):
        return "trainer.on_nonfinite=skip looks at each step before it is taken"
    if model.device.type != "cuda":
        return f"CUDA graphs need a CUDA device, but the model is on {model.device.type}"
    if not all(group.get("fused") and "capturable" in group for group in groups):
        return f"torch's {type(trainer.optimizers[0]).__name__} cannot be captured with these settings; Adam can"
    return None


def _rates(optimizer: Optimizer) -> dict[str, float]:
    """The learning rate of each group of weights."""
    return {f"lr of group {place}": group["lr"] for place, group in enumerate(optimizer.param_groups)}


def _settings(optimizer: Optimizer) -> list[tuple[Any, ...]]:
    """All that a graph takes for constant: settings but the learning rate, and which weights are trained."""
    return [
        (
            *(value for name, value in group.items() if name not in ("params", "lr", "initial_lr")),
            *(parameter.requires_grad for parameter in group["params"]),
        )
        for group in optimizer.param_groups
    ]


@contextmanager
def reading(optimizer: Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Have an optimiser take its learning rates from tensors, as a graph must; it forgets them afterwards."""
    before = [dict(group) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.update(lr=rate, capturable=True)
    try:
        yield
    finally:
        for group, settings in zip(optimizer.param_groups, before, strict=True):
            group.update(settings)


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """What is launched here runs on a stream of its own, after what came before and before what comes after."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


def capture(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """A function that replays what ``step`` launches, which is not carried out yet; RuntimeError if that cannot be."""
    graph = torch.cuda.CUDAGraph()
    generator = torch.cuda.default_generators[device.index or 0]
    before = generator.clone_state()
    try:
        # Other threads, such as those that pin memory for a loader, may go on using CUDA meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
    except RuntimeError:
        generator.graphsafe_set_state(before)  # an abandoned capture would keep it
        raise
    return graph.replay
