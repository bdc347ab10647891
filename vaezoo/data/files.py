"""Decoding of image files, and counting of those that cannot be read."""

import logging
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vaezoo.config.errors import DataError, printable
from vaezoo.data.fitting import scaled_size
from vaezoo.data.images import ImageTensor
from vaezoo.data.levels import Levels, to_bytes
from vaezoo.data.pixels import Shape, binarize_once
from vaezoo.data.workers import leave_signals_to_the_run, one_pass

MAX_UNREADABLE = 0.01  # of a split's files
MOST_REASON = 300  # characters of an error message
MAX_NAMED = 10  # files named in one error
MOST_PIXELS = 2**26  # of an image, such as 8192x8192; decoding one can take 1 GiB
MOST_BYTES = 2**29  # of one image file
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # formats that Pillow may detect, whatever the name
CHUNK_BYTES = 2**22  # size of the chunks that workers return when all files are decoded into memory

logger = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """Decoded files: uint8 images (N, C, H, W), labels, and (position, reason) of each file that cannot be read."""

    images: Tensor
    labels: Tensor
    failed: list[tuple[int, str]]


@dataclass(frozen=True)
class ImageFiles(Dataset[Decoded]):
    """A data set for torch's DataLoader: paths with labels (N,) or (N, F), decoded on access."""

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

    def path(self, position: int) -> str:
        """Path of the file at ``position``."""
        return os.fsdecode(self.paths[position])

    def __getitems__(self, positions: list[int]) -> Decoded:
        """Decode the files at ``positions``. torch's DataLoader calls this for a whole batch."""
        images, read, failed = [], [], []
        for position in positions:
            try:
                images.append(decode(self.path(position), self.image_shape, self.levels, self.fit))
                read.append(position)
            except Exception as error:  # damaged files make Pillow raise almost anything
                failed.append((position, printable(f"{type(error).__name__}: {error}")[:MOST_REASON]))
        pixels = (
            torch.from_numpy(np.stack(images)) if images else torch.empty((0, *self.image_shape), dtype=torch.uint8)
        )
        return Decoded(binarize_once(pixels, np.array(read, np.int64), self.binarize), self.labels[read], failed)


@dataclass
class Unreadable:
    """The unreadable files of one split, with reasons. Each is reported once; too many raise an error."""

    files: ImageFiles
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, failed: list[tuple[int, str]]) -> None:
        """Record files that could not be read, and log a warning for each new one."""
        for position, reason in failed:
            if position not in self.reasons:
                self.reasons[position] = reason
                path = printable(self.files.path(position))
                logger.warning("skipped %s, which cannot be read (%s)", path, reason)

    def check(self) -> None:
        """Raise DataError if more than 1% of the split cannot be read."""
        if len(self.reasons) <= MAX_UNREADABLE * len(self.files):
            return
        names = [self.files.path(position) for position in sorted(self.reasons)]
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        raise DataError(
            f"{len(names)} of {len(self.files)} image files cannot be read, which is more than "
            f"{MAX_UNREADABLE:.0%}: {', '.join(names[:MAX_NAMED])}{more}; repair or remove them "
            f"(of the first: {self.reasons[min(self.reasons)]})"
        )


def decoded_in_chunks(files: ImageFiles, size: int, workers: int) -> Iterator[tuple[int, Decoded]]:
    """All files in order, ``size`` at a time, decoded by worker processes, with the position of the first of each."""
    chunks = torch.arange(len(files)).split(size)
    loader = DataLoader(
        files,
        batch_sampler=[chunk.tolist() for chunk in chunks],
        collate_fn=as_is,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=leave_signals_to_the_run,
    )
    starts = (int(chunk[0]) for chunk in chunks)
    yield from zip(starts, one_pass(loader), strict=True)


def decode_all(files: ImageFiles, unreadable: Unreadable, workers: int) -> ImageTensor:
    """Decode all files into memory with worker processes; unreadable files are omitted, with their labels."""
    size = max(1, CHUNK_BYTES // int(np.prod(files.image_shape)))
    pixels = torch.empty((len(files), *files.image_shape), dtype=torch.uint8)
    labels = torch.empty_like(files.labels)
    done = 0
    for _, decoded in decoded_in_chunks(files, size, workers):
        end = done + len(decoded.images)
        pixels[done:end], labels[done:end] = decoded.images, decoded.labels
        unreadable.add(decoded.failed)
        done = end
    unreadable.check()
    return ImageTensor(pixels[:done], labels[:done])


def first_readable(unreadable: Unreadable, count: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Positions, pixels and labels of the first ``count`` readable files, or of all if there are fewer."""
    files = unreadable.files
    read: dict[int, Decoded] = {}
    for position in range(len(files)):
        if len(read) == count:
            break
        decoded = files.__getitems__([position])
        unreadable.add(decoded.failed)
        if not decoded.failed:
            read[position] = decoded
    unreadable.check()
    images = torch.cat([decoded.images for decoded in read.values()])
    return np.array(list(read), np.int64), images, torch.cat([decoded.labels for decoded in read.values()])


def as_is(decoded: Any) -> Any:
    """Identity, as the ``collate_fn`` of torch's DataLoader: batches are collated already."""
    return decoded


def decode(path: str, image_shape: Shape, levels: Levels | None = None, fit: str = "crop") -> NDArray[np.uint8]:
    """Decode an image file to uint8 (C, H, W), with EXIF rotation applied; ``levels`` as in ``to_bytes``.

    Raises whatever Pillow raises for damaged files.
    """
    channels, height, width = image_shape
    with opened(path, 2 * max(height, width)) as image:
        plain = to_bytes(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB", levels)
    fitted = _fitted(plain, height, width, fit)
    return np.asarray(fitted).reshape(height, width, channels).transpose(2, 0, 1)


@contextmanager
def opened(path: str, side: int) -> Iterator[Image.Image]:
    """Open an image file that is safe to decode; a JPEG is reduced while its sides stay at least ``side`` pixels.

    Raises OSError if it is not a regular file or too large, ValueError for too many pixels, or what Pillow raises.
    """
    _check_file(path)
    with Image.open(path, formats=FORMATS) as image:
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
