"""Encoder and decoder as programs that run without vaezoo, by torch.export or ONNX.

Programs accept any batch size. The encoder returns mean and log variance of the posterior, its mean alone if the
dimensions are not independent, or the code if there is no posterior; the decoder returns pixels in [0, 1]. Programs of
a conditional model take the labels as a second input.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaezoo.config.errors import RunError
from vaezoo.config.extras import need
from vaezoo.models.base import Autoencoder

KINDS = {"torch": "pt2", "onnx": "onnx"}
"""Formats of programs, and their file extensions."""

Run = Callable[..., tuple[Tensor, ...]]


class Program(nn.Module):
    """Part of a model with named inputs and outputs, whose batch may have any size."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Encoder(Program):
    """Images (B, C, H, W) in [0, 1] -> mean and logvar, mean alone, or code without a posterior, each (B, D)."""

    inputs: tuple[str, ...] = ("images",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = without(model, "decoder")
        self.inputs = _with_labels(model, *self.inputs)
        with torch.no_grad():
            posterior = model.given(0).posterior(blank(model))
        self.outputs = ("code",)
        if posterior is not None:
            self.outputs = ("mean",) if posterior.moments() is None else ("mean", "logvar")

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        model = self.model if labels is None else self.model.given(labels)
        if self.outputs != ("mean", "logvar"):
            return (model.encode(images),)
        posterior = model.posterior(images)
        assert posterior is not None
        moments = posterior.moments()
        assert moments is not None
        return moments


class Decoder(Program):
    """Codes (B, D) -> pixels (B, C, H, W) in [0, 1]."""

    inputs: tuple[str, ...] = ("code",)
    outputs: tuple[str, ...] = ("pixels",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = without(model, "encoder")
        self.inputs = _with_labels(model, *self.inputs)

    def forward(self, code: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        return ((self.model if labels is None else self.model.given(labels)).decode(code),)


def _with_labels(model: Autoencoder, *inputs: str) -> tuple[str, ...]:
    return (*inputs, "labels") if model.is_conditional else inputs


def blank(model: Autoencoder, count: int = 2) -> Tensor:
    """Black images, (count, C, H, W)."""
    return torch.zeros(count, *model.image_shape)


def without(model: Autoencoder, *parts: str) -> Autoencoder:
    """A copy of a model without these networks and its auxiliary parts, to keep their weights out of a program."""
    trimmed = copy.deepcopy(model).eval().requires_grad_(False)
    for name in (*parts, *model.auxiliary):
        setattr(trimmed, name, nn.Identity())
    return trimmed


Inputs = tuple[Tensor, ...]
"""Images or codes (B, ...), and labels (B,) if the model is conditional."""
Programs = dict[str, tuple[Program, Inputs]]


def programs(model: Autoencoder) -> Programs:
    """Both programs by name, with example inputs for tracing."""
    labels = (torch.zeros(2, dtype=torch.int64),) if model.is_conditional else ()
    return {
        "encoder": (Encoder(model), (blank(model), *labels)),
        "decoder": (Decoder(model), (torch.zeros(2, model.latent_dim), *labels)),
    }


def write_program(program: Program, example: Inputs, kind: str, path: Path) -> None:
    """Write a program in format ``kind``; RunError with torch's message if it cannot be exported."""
    try:
        with torch.no_grad(), _quiet():
            batch = torch.export.Dim("batch", min=1)
            traced = torch.export.export(program, example, dynamic_shapes=({0: batch},) * len(example), strict=False)
            _forget_places(traced)
            if kind == "torch":
                torch.export.save(traced, path)
                return
            need("onnx", "export"), need("onnxscript", "export")
            torch.onnx.export(
                traced,
                f=str(path),
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(f"the {path.name.split('.')[-2]} cannot be written as a {kind} program: {reason}") from error


def _forget_places(traced: Any) -> None:
    """Remove stack traces, which would disclose source paths of this machine."""
    for module in traced.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)


def read_back(kind: str, path: Path) -> Run:
    """Load a written program with the runtime that others would use."""
    if kind == "torch":
        with _quiet():
            module = torch.export.load(path).module()
        return lambda *tensors: tuple(module(*tensors))
    runtime = need("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return tuple(map(torch.from_numpy, session.run(None, arrays)))

    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and log messages of torch's exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels: list[Any] = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
