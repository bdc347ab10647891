"""Checks that exported files reproduce the model's outputs."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.config.errors import DataError, RunError
from vaezoo.data import ImageDataModule
from vaezoo.models.base import Autoencoder
from vaezoo.models.programs import Inputs, Program, Run

IMAGES = 64
"""Number of images in a check, in one batch; the first is also checked alone."""
TOLERANCE = 1e-4
"""Maximum difference of outputs, relative to the largest output if that exceeds 1."""


def images_for(model: Autoencoder, data: ImageDataModule) -> tuple[Tensor, Tensor, str]:
    """Test images (B, C, H, W) and labels, or random ones if the data are not available, and a description of them."""
    try:
        images, labels = data.examples(IMAGES, "test")
    except DataError as error:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(IMAGES, *model.image_shape, generator=generator)
        return images, torch.arange(IMAGES) % (model.classes or 1), f"random images, as {error}"
    return images, labels, f"{len(images)} test images of {data.name}"


@torch.no_grad()
def difference(wanted: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """The largest difference between outputs, relative to the largest output if that exceeds 1.

    Infinite for different shapes or non-finite outputs.
    """
    if [each.shape for each in wanted] != [each.shape for each in got]:
        return float("inf")
    pairs = zip(wanted, got, strict=True)
    parts = [float((one - other).abs().max() / one.abs().max().clamp(min=1)) for one, other in pairs]
    return max(part if part == part else float("inf") for part in parts)


@torch.no_grad()
def check_program(program: Program, run: Run, inputs: Inputs, path: Path) -> float:
    """The largest difference between a written program and the model; RunError if it exceeds ``TOLERANCE``."""
    alone = tuple(part[:1] for part in inputs)
    found = max(difference(program(*parts), run(*parts)) for parts in (inputs, alone))
    refuse_beyond(found, path)
    return found


def refuse_beyond(found: float, path: Path) -> None:
    """Raise RunError if a difference exceeds ``TOLERANCE``."""
    if not found <= TOLERANCE:
        raise RunError(
            f"{path.name} does not reproduce the model's outputs (they differ by {found:.2g}, at most {TOLERANCE:g} is"
            " allowed), so nothing was written; please report the versions of torch and onnxruntime with it"
        )
