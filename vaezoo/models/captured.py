"""A whole optimiser step as a CUDA graph: one launch for what would be a hundred. It knows no variant of a model."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from vaezoo.models.inner_loop import InnerLoop

log = logging.getLogger(__name__)

WARMUP = 3
"""Steps that are taken as usual, on a stream of their own, before one is captured: libraries set themselves up."""


class CapturingLoop(InnerLoop):
    """``InnerLoop`` that replays forward pass, backward pass and optimiser as one CUDA graph.

    Each batch is copied to where the graph reads, and so are the objective's weights and the learning rate when they
    change; what the step came to is copied out, to be logged as ever. A batch below the usual size, as the last of an
    epoch often is, takes the usual way. The optimiser and its checkpoints are as without a graph.
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
            self.size, self.taken = len(x), 0
        if len(x) != self.size or self.refused:
            return super()._forward_and_update(batch, index)
        self.taken += 1
        if self.taken <= WARMUP:
            with side_stream(x.device):
                return super()._forward_and_update(batch, index)
        if self.replay is None:
            self._capture(x)
        if self.replay is None:
            return super()._forward_and_update(batch, index)
        self.x.copy_(x)
        for name, value in self._numbers().items():
            if self.seen[name] != value:
                self.seen[name] = value
                self.read[name].fill_(value)
        self.replay()
        loss, values = self.loss.clone(), self.values.clone()
        self.model.account(loss, dict(zip(self.names, values, strict=True)))
        return loss

    def _capture(self, x: Tensor) -> None:
        """Record a step on images of this shape, which computes nothing yet."""
        self.x = x.clone()
        self.seen = self._numbers()
        self.read = {name: torch.tensor(value, device=x.device) for name, value in self.seen.items()}

        def step() -> None:
            weights = {name: self.read[name] for name in self.model.weights()}
            with self.trainer.precision_plugin.train_step_context():
                loss, values = self.model.losses(self.x, weights)
            with reading(self.optimizer, [self.read[key] for key in self._rates()]):
                self._update(loss)
            self.loss, self.names = loss.detach(), list(values)
            self.values = torch.stack([value.detach() for value in values.values()])

        try:
            self.replay = capture(step)
        except RuntimeError as error:  # what CUDA or a library says
            self.refused = True
            log.warning("warning     the step cannot be captured, and is taken without a graph: %s", error)

    def _numbers(self) -> dict[str, float]:
        """What a schedule may change from step to step, by name."""
        return {**self.model.weights(), **self._rates()}

    def _rates(self) -> dict[str, float]:
        return {f"lr of group {place}": group["lr"] for place, group in enumerate(self.optimizer.param_groups)}


def why_not_captured(trainer: L.Trainer, model: L.LightningModule) -> str | None:
    """Why the steps of a training that ``InnerLoop`` can run cannot be captured, in words; None where they can."""
    groups = trainer.optimizers[0].param_groups
    if model.device.type != "cuda":
        return f"CUDA graphs need a CUDA device, and the model is on {model.device.type}"
    if not all(group.get("fused") and "capturable" in group for group in groups):
        return f"torch's {type(trainer.optimizers[0]).__name__} cannot be captured with these settings; Adam can"
    return None


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


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """A function that replays what ``step`` launches; ``step`` itself is not carried out."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
