"""Encoder and decoder as programs that run without vaezoo, by torch.export or ONNX.

Programs accept any batch size. The encoder returns mean and log variance of the posterior, its mean alone if the
dimensions are not independent, or the code if there is no posterior; the decoder returns pixels in [0, 1].
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
from vaezoo.models import Autoencoder

KINDS = {"torch": "pt2", "onnx": "onnx"}
"""Formats of programs, and their file extensions."""

Run = Callable[[Tensor], tuple[Tensor, ...]]


class Encoder(nn.Module):
    """Images (B, C, H, W) in [0, 1] -> mean and logvar, mean alone, or code without a posterior, each (B, D)."""

    inputs = ("images",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = _without(model, "decoder")
        with torch.no_grad():
            posterior = model.posterior(_blank(model))
        self.outputs: tuple[str, ...] = ("code",)
        if posterior is not None:
            self.outputs = ("mean",) if posterior.moments() is None else ("mean", "logvar")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.outputs != ("mean", "logvar"):
            return (self.model.encode(images),)
        posterior = self.model.posterior(images)
        assert posterior is not None
        moments = posterior.moments()
        assert moments is not None
        return moments


class Decoder(nn.Module):
    """Codes (B, D) -> pixels (B, C, H, W) in [0, 1]."""

    inputs, outputs = ("code",), ("pixels",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = _without(model, "encoder")

    def forward(self, code: Tensor) -> tuple[Tensor, ...]:
        return (self.model.decode(code),)


def _blank(model: Autoencoder, count: int = 2) -> Tensor:
    return torch.zeros(count, *model.image_shape)


def _without(model: Autoencoder, part: str) -> Autoencoder:
    """A copy of a model without one of its networks and auxiliary parts, to keep their weights out of the program."""
    trimmed = copy.deepcopy(model).eval().requires_grad_(False)
    for name in (part, *model.auxiliary):
        setattr(trimmed, name, nn.Identity())
    return trimmed


Programs = dict[str, tuple[Encoder | Decoder, Tensor]]


def programs(model: Autoencoder) -> Programs:
    """Both programs by name, with example inputs for tracing."""
    return {
        "encoder": (Encoder(model), _blank(model)),
        "decoder": (Decoder(model), torch.zeros(2, model.latent_dim)),
    }


def write_program(program: Encoder | Decoder, example: Tensor, kind: str, path: Path) -> None:
    """Write a program in format ``kind``; RunError with torch's message if it cannot be exported."""
    try:
        with torch.no_grad(), _quiet():
            batch = ({0: torch.export.Dim("batch", min=1)},)
            traced = torch.export.export(program, (example,), dynamic_shapes=batch, strict=False)
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
        return lambda tensor: tuple(module(tensor))
    runtime = need("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: tuple(map(torch.from_numpy, session.run(None, {name: tensor.numpy()})))


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
