"""Whether what was written gives what the model gives. It writes nothing."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.commands.export.programs import Decoder, Encoder, Run
from vaezoo.config.errors import DataError, RunError
from vaezoo.data import ImageDataModule
from vaezoo.models import Autoencoder

IMAGES = 64
"""Images that everything is checked on, all at once and the first one by itself."""
TOLERANCE = 1e-4
"""Most that an output may differ, relative to the largest one where that exceeds 1."""


def images_for(model: Autoencoder, data: ImageDataModule) -> tuple[Tensor, str]:
    """Test images of the run's data (B, C, H, W), or random ones where there are none here; and which they are."""
    try:
        images, _ = data.examples(IMAGES, "test")
    except DataError as error:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(IMAGES, *model.image_shape, generator=generator), f"random images, as {error}"
    return images, f"{len(images)} test images of {data.name}"


@torch.no_grad()
def difference(wanted: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """The largest difference between outputs, relative to the largest one where that exceeds 1; infinite for other
    shapes and for what is not finite."""
    if [each.shape for each in wanted] != [each.shape for each in got]:
        return float("inf")
    pairs = zip(wanted, got, strict=True)
    parts = [float((one - other).abs().max() / one.abs().max().clamp(min=1)) for one, other in pairs]
    return max(part if part == part else float("inf") for part in parts)


@torch.no_grad()
def check_program(program: Encoder | Decoder, run: Run, inputs: Tensor, path: Path) -> float:
    """The largest difference of a written program from the model's own outputs; RunError beyond the tolerance."""
    found = max(difference(program(part), run(part)) for part in (inputs, inputs[:1]))
    refuse_beyond(found, path)
    return found


def refuse_beyond(found: float, path: Path) -> None:
    """RunError for a difference beyond the tolerance."""
    if not found <= TOLERANCE:
        raise RunError(
            f"{path.name} does not reproduce the model's outputs (they differ by {found:.2g}, at most {TOLERANCE:g} is"
            " allowed), so nothing was written; please report the versions of torch and onnxruntime with it"
        )
