"""Image files: decoding, and refusal of those that are not safe to decode."""

import math
import os
import stat
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from vaezoo.config.errors import printable
from vaezoo.data.fitting import scaled_size
from vaezoo.data.levels import FULL, Levels, kind_of, to_bytes, to_values
from vaezoo.data.on_disk import Decoded, ImagesOnDisk
from vaezoo.data.pixels import Shape, binarize_once

MOST_REASON = 300  # characters of an error message
MOST_PIXELS = 2**26  # of an image, such as 8192x8192; decoding one can take 1 GiB
MOST_BYTES = 2**29  # of one image file
MOST_OPENED = 64  # images whose kind is looked at, to choose how pixels are stored
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # formats that Pillow may detect, whatever the name


@dataclass(frozen=True)
class EncodedImages(ImagesOnDisk):
    """Images in formats such as PNG and JPEG with labels (N,) or (N, F), decoded on access.

    Levels are stored as they are: of 8 bits as uint8, of 16 as int16 (see ``pixels``), others as float32. ``dtype`` is
    chosen in ``with_settings``, by a look at some of the images.
    """

    labels: Tensor
    image_shape: Shape
    binarize: str = field(default="none", kw_only=True)
    levels: Levels | None = field(default=None, kw_only=True)
    fit: str = field(default="crop", kw_only=True)
    dtype: torch.dtype = field(default=torch.uint8, kw_only=True)

    @abstractmethod
    def content(self, position: int) -> str | bytes:
        """The path of the file of the image at ``position``, or its bytes."""

    def with_settings(self, binarize: str, levels: Levels | None, fit: str) -> Self:
        """The same images, with these settings."""
        dtype = storage_of(self.kinds(), levels)
        return replace(self, binarize=binarize, levels=levels, fit=fit, dtype=dtype)

    def kinds(self, most: int = MOST_OPENED) -> set[str]:
        """Kinds of the levels of the first ``most`` images that can be opened, keys of ``FULL``."""
        found = set()
        for position in range(min(most, len(self))):
            # damaged files, which make Pillow raise almost anything, are reported when they are decoded
            with suppress(Exception), opened(self.content(position), 1) as image:
                found.add(kind_of(image))
        return found

    def __getitems__(self, positions: list[int]) -> Decoded:
        images, read, failed = [], [], []
        for position in positions:
            try:
                images.append(decode(self.content(position), self.image_shape, self.levels, self.fit, self.dtype))
                read.append(position)
            except Exception as error:  # damaged files make Pillow raise almost anything
                failed.append((position, printable(f"{type(error).__name__}: {error}")[:MOST_REASON]))
        pixels = torch.from_numpy(np.stack(images)) if images else torch.empty((0, *self.image_shape), dtype=self.dtype)
        binarized = binarize_once(pixels, np.array(read, np.int64), self.binarize, self.levels)
        return Decoded(binarized, self.labels[read], failed)


def storage_of(kinds: Collection[str], levels: Levels | None) -> torch.dtype:
    """The type that holds the levels of these kinds exactly, up to the 24 bits of float32."""
    low, high = levels or FULL["16-bit"]
    if "floating-point" in kinds or ("16-bit" in kinds and (low < 0 or high > FULL["16-bit"][1])):
        return torch.float32
    return torch.int16 if "16-bit" in kinds else torch.uint8


@dataclass(frozen=True)
class ImageFiles(EncodedImages):
    """Paths of image files with their labels."""

    paths: NDArray[np.bytes_]  # an array, because each worker process would end up with a copy of a list of strings

    @classmethod
    def of(cls, paths: list[Path], labels: Tensor, image_shape: Shape) -> "ImageFiles":
        """Files with labels in the same order; they need not exist yet."""
        return cls(labels, image_shape, np.array([os.fsencode(path) for path in paths]))

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, positions: NDArray[np.int64]) -> "ImageFiles":
        """The files at ``positions`` (N,), in that order."""
        return replace(self, paths=self.paths[positions], labels=self.labels[torch.from_numpy(positions)])

    def path(self, position: int) -> str:
        """Path of the file at ``position``."""
        return os.fsdecode(self.paths[position])

    def content(self, position: int) -> str:
        """Path of the file at ``position``."""
        return self.path(position)


def decode(
    content: str | bytes,
    image_shape: Shape,
    levels: Levels | None = None,
    fit: str = "crop",
    dtype: torch.dtype = torch.uint8,
) -> NDArray[Any]:
    """Decode the file at a path, or its bytes, to pixels (C, H, W) stored as ``dtype``, with EXIF rotation applied.

    As uint8, ``levels`` become 0 to 255 as by ``to_bytes``; otherwise, they are kept.

    Raises whatever Pillow raises for damaged files.
    """
    channels, height, width = image_shape
    mode = "L" if channels == 1 else "RGB"
    with opened(content, 2 * max(height, width)) as image:
        upright = ImageOps.exif_transpose(image)
        if dtype == torch.uint8:
            fitted = _fitted(to_bytes(upright, mode, levels), height, width, fit)
            return np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1)
        planes = to_values(upright, mode, levels, FULL["16-bit" if dtype == torch.int16 else "floating-point"][1])
    black = 0.0 if levels is None else levels[0]
    values = np.stack([np.asarray(_fitted(Image.fromarray(plane), height, width, fit, black)) for plane in planes])
    values = np.broadcast_to(values, image_shape)
    return np.rint(values).astype(np.uint16).view(np.int16) if dtype == torch.int16 else np.ascontiguousarray(values)


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


def _fitted(image: Image.Image, height: int, width: int, fit: str, black: float = 0) -> Image.Image:
    if fit == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    rows, columns = scaled_size((image.height, image.width), (height, width), fit)
    resized = image.resize((columns, rows), Image.Resampling.BILINEAR)
    padded = Image.new(image.mode, (width, height), black if image.mode == "F" else 0)
    padded.paste(resized, ((width - columns) // 2, (height - rows) // 2))
    return padded


def _check_file(path: str) -> None:
    """Raise OSError if it is not a regular file (reading a pipe could block forever) or larger than ``MOST_BYTES``."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a file")
    if found.st_size > MOST_BYTES:
        raise OSError(f"it has {found.st_size:,} bytes, more than the {MOST_BYTES:,} of any image")
