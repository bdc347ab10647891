"""Image files: decoding, and refusal of those that are not safe to decode."""

import math
import os
import stat
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vaezoo.config.errors import printable
from vaezoo.data.fitting import scaled_size
from vaezoo.data.levels import Levels, to_bytes
from vaezoo.data.on_disk import Decoded, ImagesOnDisk
from vaezoo.data.pixels import Shape, binarize_once

MOST_REASON = 300  # characters of an error message
MOST_PIXELS = 2**26  # of an image, such as 8192x8192; decoding one can take 1 GiB
MOST_BYTES = 2**29  # of one image file
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # formats that Pillow may detect, whatever the name


class EncodedImages(ImagesOnDisk):
    """Images in formats such as PNG and JPEG with labels (N,) or (N, F), decoded on access."""

    @abstractmethod
    def content(self, position: int) -> str | bytes:
        """The path of the file of the image at ``position``, or its bytes."""

    def __getitems__(self, positions: list[int]) -> Decoded:
        images, read, failed = [], [], []
        for position in positions:
            try:
                images.append(decode(self.content(position), self.image_shape, self.levels, self.fit))
                read.append(position)
            except Exception as error:  # damaged files make Pillow raise almost anything
                failed.append((position, printable(f"{type(error).__name__}: {error}")[:MOST_REASON]))
        pixels = (
            torch.from_numpy(np.stack(images)) if images else torch.empty((0, *self.image_shape), dtype=torch.uint8)
        )
        return Decoded(binarize_once(pixels, np.array(read, np.int64), self.binarize), self.labels[read], failed)


@dataclass(frozen=True)
class ImageFiles(EncodedImages):
    """Paths of image files with their labels."""

    paths: NDArray[np.bytes_]  # an array, because each worker process would end up with a copy of a list of strings
    labels: Tensor
    image_shape: Shape
    binarize: str = "none"
    levels: Levels | None = None
    fit: str = "crop"

    @classmethod
    def of(cls, paths: list[Path], labels: Tensor, image_shape: Shape) -> "ImageFiles":
        """Files with labels in the same order; they need not exist yet."""
        return cls(np.array([os.fsencode(path) for path in paths]), labels, image_shape)

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, positions: NDArray[np.int64]) -> "ImageFiles":
        """The files at ``positions`` (N,), in that order."""
        return replace(self, paths=self.paths[positions], labels=self.labels[torch.from_numpy(positions)])

    def with_settings(self, binarize: str, levels: Levels | None, fit: str) -> "ImageFiles":
        """The same images, with these settings."""
        return replace(self, binarize=binarize, levels=levels, fit=fit)

    def path(self, position: int) -> str:
        """Path of the file at ``position``."""
        return os.fsdecode(self.paths[position])

    def content(self, position: int) -> str:
        """Path of the file at ``position``."""
        return self.path(position)


def decode(
    content: str | bytes, image_shape: Shape, levels: Levels | None = None, fit: str = "crop"
) -> NDArray[np.uint8]:
    """Decode the file at a path, or its bytes, to uint8 (C, H, W), with EXIF rotation applied.

    ``levels`` are as in ``to_bytes``.

    Raises whatever Pillow raises for damaged files.
    """
    channels, height, width = image_shape
    with opened(content, 2 * max(height, width)) as image:
        plain = to_bytes(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB", levels)
    fitted = _fitted(plain, height, width, fit)
    return np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1)


@contextmanager
def opened(content: str | bytes, side: int) -> Iterator[Image.Image]:
    """Open an image that is safe to decode, at a path or from bytes.

    A JPEG is reduced while its sides stay at least ``side`` pixels.

    Raises OSError if it is not a regular file or too large, ValueError for too many pixels, or what Pillow raises.
    """
    if isinstance(content, str):
        _check_file(content)
    with Image.open(BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
        image.draft(None, (side, side))
        if math.prod(image.size) > MOST_PIXELS:
            raise ValueError(
                f"{image.width}x{image.height} pixels, but at most {MOST_PIXELS:,} are allowed; make it smaller"
            )
        yield image


def _fitted(image: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    if fit == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    rows, columns = scaled_size((image.height, image.width), (height, width), fit)
    resized = image.resize((columns, rows), Image.Resampling.BILINEAR)
    padded = Image.new(image.mode, (width, height))
    padded.paste(resized, ((width - columns) // 2, (height - rows) // 2))
    return padded


def _check_file(path: str) -> None:
    """Raise OSError if it is not a regular file (reading a pipe could block forever) or larger than ``MOST_BYTES``."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a file")
    if found.st_size > MOST_BYTES:
        raise OSError(f"it has {found.st_size:,} bytes, more than the {MOST_BYTES:,} of any image")
