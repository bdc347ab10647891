"""Images on disk that are read in batches, and the count of those that cannot be read."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vaezoo.config.errors import DataError, printable
from vaezoo.data.images import ImageTensor
from vaezoo.data.levels import Levels
from vaezoo.data.pixels import Shape
from vaezoo.data.workers import leave_signals_to_the_run, one_pass

MAX_UNREADABLE = 0.01  # of a split's files
MAX_NAMED = 10  # files named in one error
CHUNK_BYTES = 2**22  # size of the chunks that workers return when all images are read into memory

logger = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """Images that were read: stored pixels (N, C, H, W), labels, and (position, reason) of each that cannot be read."""

    images: Tensor
    labels: Tensor
    failed: list[tuple[int, str]]


class ImagesOnDisk(Dataset[Decoded], ABC):
    """A data set for torch's DataLoader: images with labels (N,) or (N, F), read on access, for ``with_settings``."""

    labels: Tensor
    image_shape: Shape
    binarize: str
    levels: Levels | None
    fit: str
    dtype = torch.uint8
    """Type of stored pixels; see ``pixels.as_float``."""
    may_be_skipped = True
    """Whether up to 1% of the images may be unreadable; otherwise, each is an error."""
    workers_help = True
    """Whether reading takes so long that worker processes are worth their start."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, positions: NDArray[np.int64]) -> Self:
        """The images at ``positions`` (N,), in that order."""

    def reading_order(self) -> Tensor:
        """Positions (N,) in the order in which reading all images is fastest."""
        return torch.arange(len(self))

    @abstractmethod
    def path(self, position: int) -> str:
        """Where the image at ``position`` is, for messages."""

    @abstractmethod
    def __getitems__(self, positions: list[int]) -> Decoded:
        """Read the images at ``positions``. torch's DataLoader calls this for a whole batch."""

    @abstractmethod
    def with_settings(self, binarize: str, levels: Levels | None, fit: str) -> Self:
        """The same images, with these settings."""

    @property
    def stored_dtype(self) -> torch.dtype:
        """Type of the pixels that are read; binarised ones are uint8."""
        return self.dtype if self.binarize == "none" else torch.uint8

    @property
    def bytes_per_image(self) -> int:
        """Size of one image in memory."""
        return int(np.prod(self.image_shape)) * self.stored_dtype.itemsize


@dataclass
class Unreadable:
    """The unreadable images of one split, with reasons. Each is reported once; too many raise an error."""

    files: ImagesOnDisk
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, failed: list[tuple[int, str]]) -> None:
        """Record images that could not be read, and log a warning for each; DataError if none may be skipped."""
        for position, reason in failed:
            path = printable(self.files.path(position))
            if not self.files.may_be_skipped:
                raise DataError(f"{path} cannot be used: {reason}")
            if position not in self.reasons:
                self.reasons[position] = reason
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


def decoded_in_chunks(
    files: ImagesOnDisk, positions: Tensor, size: int, workers: int
) -> Iterator[tuple[Tensor, Decoded]]:
    """The images at ``positions`` (N,), read ``size`` at a time by worker processes, with their positions."""
    chunks = positions.split(size)
    loader = DataLoader(
        files,
        batch_sampler=[chunk.tolist() for chunk in chunks],
        collate_fn=as_is,
        num_workers=workers,
        generator=torch.Generator(),
        worker_init_fn=leave_signals_to_the_run,
    )
    yield from zip(chunks, one_pass(loader), strict=True)


def decode_all(files: ImagesOnDisk, unreadable: Unreadable, workers: int) -> ImageTensor:
    """Read all images into memory with worker processes; unreadable ones are omitted, with their labels."""
    size = max(1, CHUNK_BYTES // files.bytes_per_image)
    pixels = torch.empty((len(files), *files.image_shape), dtype=files.stored_dtype)
    labels = torch.empty_like(files.labels)
    done = 0
    for chunk, decoded in decoded_in_chunks(files, files.reading_order(), size, workers):
        unreadable.add(decoded.failed)
        end = done + len(decoded.images)
        places = torch.arange(done, end) if files.may_be_skipped else chunk
        pixels[places], labels[places] = decoded.images, decoded.labels
        done = end
    unreadable.check()
    return ImageTensor(pixels[:done], labels[:done])


def first_readable(unreadable: Unreadable, count: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Positions, pixels and labels of the first ``count`` readable images, or of all if there are fewer."""
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
