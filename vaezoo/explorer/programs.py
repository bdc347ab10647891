"""The parts of a model that a page runs, as ONNX programs."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.models import Autoencoder, program_checks
from vaezoo.models.programs import (
    Decoder,
    Encoder,
    Inputs,
    Program,
    Programs,
    blank,
    read_back,
    without,
    write_program,
)


class ProjectingDecoder(Decoder):
    """Any points (B, D) -> the pixels of the nearest codes that the encoder can give, and these codes (B, D)."""

    outputs = ("pixels", "nearest")

    def forward(self, code: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        nearest = self.model.project(code)
        return (*super().forward(nearest, labels), nearest)


class PathEncoder(Program):
    """Images (B, C, H, W) -> points (B, D) between which paths run, of a model with discrete codes."""

    inputs, outputs = ("images",), ("code",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = without(model, "decoder")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.model.path_code(images),)


class NearestIndices(Program):
    """Points (B, D) -> the indices of the nearest codes, as sequences, int32 (B, T)."""

    inputs, outputs = ("code",), ("indices",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = without(model, "encoder", "decoder")

    def forward(self, code: Tensor) -> tuple[Tensor, ...]:
        assert self.model.index_layout is not None
        return (self.model.index_layout.sequences(self.model.indices_of(code)).int(),)


class IndexDecoder(Program):
    """Indices as sequences, int32 (B, T) -> pixels (B, C, H, W) in [0, 1]."""

    inputs, outputs = ("indices",), ("pixels",)

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = without(model, "encoder")

    def forward(self, indices: Tensor) -> tuple[Tensor, ...]:
        assert self.model.index_layout is not None
        return (self.model.decode(self.model.codes_at(self.model.index_layout.from_sequences(indices.long()))),)


@torch.no_grad()
def page_programs(model: Autoencoder) -> Programs:
    """The programs of a page by name, with example inputs.

    ``encoder`` and ``decoder``; of discrete codes, ``nearest`` between them. The decoder of continuous codes projects
    if the model's codes are not all points.
    """
    if model.index_layout is not None:
        points, indices = torch.zeros(2, model.latent_dim), torch.zeros(2, model.index_layout.length, dtype=torch.int32)
        return {
            "encoder": (PathEncoder(model), (blank(model),)),
            "nearest": (NearestIndices(model), (points,)),
            "decoder": (IndexDecoder(model), (indices,)),
        }
    labels = (torch.zeros(2, dtype=torch.int64),) if model.is_conditional else ()
    points = torch.randn(2, model.latent_dim, generator=torch.Generator().manual_seed(0))
    decoder = Decoder(model) if torch.equal(model.project(points), points) else ProjectingDecoder(model)
    return {"encoder": (Encoder(model), (blank(model), *labels)), "decoder": (decoder, (points, *labels))}


@torch.no_grad()
def written(programs: Programs, images: Tensor, labels: Tensor) -> dict[str, bytes]:
    """ONNX files by name, each compared with the model on images (B, C, H, W) and what follows from them.

    RunError if a program cannot be written, or if its outputs differ from the model's.
    """
    found = {}
    inputs: Inputs = (images,)
    with tempfile.TemporaryDirectory() as temporary:
        for name, (program, example) in programs.items():
            path = Path(temporary) / f"model.{name}.onnx"
            write_program(program, example, "onnx", path)
            given = (*inputs, labels) if "labels" in program.inputs else inputs
            program_checks.check_program(program, read_back("onnx", path), given, path)
            found[name] = path.read_bytes()
            inputs = program(*given)[:1]
    return found
