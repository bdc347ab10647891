"""The images of a page: training images on its maps, test images to choose from, and how an image is drawn by hand."""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vaezoo.data import ImageDataModule
from vaezoo.training.callbacks.latents import labels_of

MOST_TRAINING, MOST_TEST = 600, 24
"""Maximum numbers of training and of test images on a page."""
MOST_VALUES = 3_000_000
"""Maximum number of pixel values of the training images on a page."""
MEASURED = 2000
"""Maximum number of training images from which statistics are computed."""
COLUMNS = 30
"""Images in a row of a sheet."""
INK = 0.25
"""Pixels above this part of the brightest one belong to a drawing."""
DARK_BORDER = 0.1
"""Highest median of the pixels at the border of drawings on a black ground."""


@dataclass(frozen=True)
class Sheet:
    """Images side by side in rows of ``columns``, as a PNG."""

    png: bytes
    count: int
    columns: int


@dataclass(frozen=True)
class Pen:
    """What drawings in the training images look like, so that one drawn by hand is given the same look.

    ``side`` is the longer side of a drawing's bounding box, ``x`` and ``y`` the centre of the box, and ``width`` that
    of a stroke, all in pixels and as medians; ``level`` is the brightness of a stroke, in [0, 1].
    """

    side: float
    x: float
    y: float
    width: float
    level: float


@dataclass(frozen=True)
class Shown:
    """The images of a page as the browser gets them; ``label`` and ``test_label`` have the class of each, -1 if none.

    ``names`` and ``colours`` are by class; ``title`` is what the classes stand for, such as a factor, or empty.
    """

    data: str
    shape: list[int]
    training: Sheet
    test: Sheet
    label: list[int]
    test_label: list[int]
    names: dict[int, str]
    colours: dict[int, str]
    few: bool
    title: str
    pen: Pen | None


@dataclass(frozen=True)
class Images:
    """The images of a page as tensors (N, C, H, W), with the labels that a conditional model takes.

    ``measured`` are the training images from which statistics are computed; the first ``count`` are on the page.
    """

    measured: Tensor
    measured_labels: Tensor
    count: int
    test: Tensor
    test_labels: Tensor
    shown: Shown


def read(data: ImageDataModule) -> Images:
    """The images of a page from a data module, the same for every model; DataError if they cannot be read."""
    data.prepare_data()
    data.setup()
    values = math.prod(data.image_shape)
    measured, labels = data.examples(min(MEASURED, max(2, 10 * MOST_VALUES // values)), "train")
    test, test_labels = data.examples(MOST_TEST, "test")
    count = min(len(measured), MOST_TRAINING, max(2, MOST_VALUES // values))
    training = measured[:count]
    both = labels_of(torch.cat([labels[:count], test_labels]), data.factors)
    shown = Shown(
        data=str(data.describe()["name"]),
        shape=list(data.image_shape),
        training=sheet(training),
        test=sheet(test),
        label=both.values[:count].tolist(),
        test_label=both.values[count:].tolist(),
        names={value: both.name(value) for value in both.known},
        colours=both.palette(),
        few=both.few,
        title=both.title,
        pen=pen_of(training),
    )
    return Images(measured, labels, count, test, test_labels, shown)


def sheet(images: Tensor) -> Sheet:
    """Images (N, C, H, W) in [0, 1] as a PNG of 8 bits."""
    count, channels, height, width = images.shape
    columns, rows = min(COLUMNS, count), -(-count // COLUMNS)
    pixels = np.zeros((rows * height, columns * width, channels), np.uint8)
    for at, image in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        top, left = at // columns * height, at % columns * width
        pixels[top : top + height, left : left + width] = image
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file, "PNG", optimize=True)
    return Sheet(file.getvalue(), count, columns)


def pen_of(images: Tensor) -> Pen | None:
    """The look of drawings in images (N, C, H, W); None if they are not light strokes on black.

    The width of strokes is twice their area divided by the length of their outline, which the total variation gives.
    """
    if images.shape[1] != 1 or _border(images) > DARK_BORDER:
        return None
    pixels = images[:, 0]
    peak = pixels.amax((1, 2))
    boxes = [_box(image > INK * top) for image, top in zip(pixels, peak, strict=True) if top > 0]
    if not boxes:
        return None
    left, top, right, bottom = torch.tensor(boxes, dtype=torch.float).unbind(1)
    across, down = torch.diff(pixels, dim=2)[:, 1:], torch.diff(pixels, dim=1)[:, :, 1:]
    outline = torch.hypot(across, down).sum((1, 2)).clamp(min=1e-6)
    return Pen(
        side=_median(torch.maximum(right - left, bottom - top)),
        x=_median((left + right) / 2),
        y=_median((top + bottom) / 2),
        width=max(1.0, _median(2 * pixels.sum((1, 2)) / outline)),
        level=_median(peak),
    )


def _border(images: Tensor) -> float:
    """The median of the pixels in the outermost rows and columns."""
    edges = [images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]]
    return float(torch.cat([edge.flatten() for edge in edges]).median())


def _box(ink: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that are true in (H, W), the last two exclusive."""
    rows, columns = ink.any(1).nonzero().flatten(), ink.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _median(values: Tensor) -> float:
    return round(float(values.median()), 3)
