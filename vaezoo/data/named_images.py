"""Images with their names, in a fixed order: those of a split, or files that a trained model is applied to."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.errors import DataError, printable
from vaezoo.data.files import ImageFiles, opened
from vaezoo.data.folders import list_images
from vaezoo.data.images import ImageTensor
from vaezoo.data.labels import NONE
from vaezoo.data.levels import Levels
from vaezoo.data.on_disk import ImagesOnDisk, decoded_in_chunks
from vaezoo.data.pixels import Shape, as_float, binarize_once

INSPECTED = 100
"""Maximum number of files whose size is read before they are decoded, to say that images are resized."""

logger = logging.getLogger(__name__)


class NamedBatch(NamedTuple):
    """A batch of images, without those that cannot be read.

    ``start`` is the position of the first one among all images, whether or not it can be read. ``positions`` (B,) are
    those of all; ``names`` are the paths of files, None for images that are not files. ``x`` is float32 (B, C, H, W)
    in [0, 1]; ``labels`` are (B,) or (B, F), -1 without labels.
    """

    start: int
    positions: Tensor
    names: list[str] | None
    x: Tensor
    labels: Tensor


@dataclass
class NamedImages:
    """Images of one size in a fixed order, decoded batch by batch if they are files.

    ``name_of`` is the name of the image at a position, None for images that are not files. ``classes`` are the names
    of the labels, if they have some. ``levels`` are those of ``as_float``, and ``given_labels`` replace those of the
    images. Files that cannot be read are left out; ``skipped`` has the reason by position.
    """

    images: ImageTensor | ImagesOnDisk
    image_shape: Shape
    binarize: str = "none"
    name_of: Callable[[int], str] | None = None
    classes: Sequence[str] = ()
    workers: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    levels: Levels | None = None
    given_labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> Tensor:
        """The labels of all images, readable or not: (N,) or (N, F)."""
        return self.images.labels if self.given_labels is None else self.given_labels

    def with_labels(self, labels: Tensor) -> "NamedImages":
        """The same images with other labels (N,), which have no names."""
        return replace(self, given_labels=labels, classes=())

    def labelled(self, label: int) -> "NamedImages":
        """The same images, all with one label."""
        return self.with_labels(torch.full((len(self),), label))

    def columns(self, batch: NamedBatch) -> dict[str, NDArray[Any]]:
        """What identifies the images of a batch: ``path``, or ``index`` if they are not files, and ``label``.

        A label is the name of its class if there are names, else a number; there is no such column without labels.
        """
        found = {"index": batch.positions.numpy()} if batch.names is None else {"path": np.array(batch.names)}
        if not bool((self.labels >= 0).any()):
            return found
        labels = batch.labels.numpy()
        return found | {"label": np.array([*self.classes, ""])[labels] if self.classes else labels}

    def as_texts(self, name: str) -> "NamedImages":
        """The same images with texts as names and labels, so that they fit beside files: ``name/3`` for the fourth.

        Images of several labels each are without them.
        """
        one_each = self if self.labels.ndim == 1 else self.labelled(NONE)
        classes = self.classes or [str(label) for label in range(int(one_each.labels.max()) + 1)]
        return replace(one_each, name_of=self.name_of or (lambda position: f"{name}/{position}"), classes=classes)

    def batches(self, size: int) -> Iterator[NamedBatch]:
        """All images in order; DataError if none of them can be read."""
        read = self._in_memory(self.images, size) if isinstance(self.images, ImageTensor) else self._decoded(size)
        for start, positions, stored in read:
            if len(positions):
                names = None if self.name_of is None else [printable(self.name_of(at)) for at in positions.tolist()]
                yield NamedBatch(
                    start, positions, names, as_float(stored, self.image_shape, self.levels), self.labels[positions]
                )
        if len(self.skipped) == len(self):
            raise DataError(
                f"none of {len(self)} image files can be read; repair them or give others (of the first:"
                f" {self.skipped[min(self.skipped)]})"
            )

    def _in_memory(self, images: ImageTensor, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        for positions in torch.arange(len(images)).split(size):
            stored = images.select(positions.numpy()).pixels
            yield int(positions[0]), positions, binarize_once(stored, positions.numpy(), self.binarize, self.levels)

    def _decoded(self, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        assert isinstance(self.images, ImagesOnDisk)
        everywhere = torch.arange(len(self))
        for positions, decoded in decoded_in_chunks(self.images, everywhere, size, self.workers):
            failed = dict(decoded.failed)
            for position, reason in failed.items():
                path = printable(self.images.path(position))
                if not self.images.may_be_skipped:
                    raise DataError(f"{path} cannot be used: {reason}")
                logger.warning("skipped %s, which cannot be read (%s)", path, reason)
            self.skipped |= failed
            read = torch.tensor([at for at in positions.tolist() if at not in failed], dtype=torch.int64)
            yield int(positions[0]), read, decoded.images

    def resizing(self) -> str | None:
        """A sentence if one of the first files has another size than the model's images, else None."""
        if not isinstance(self.images, ImageFiles):
            return None
        height, width = self.image_shape[1:]
        for path in map(self.images.path, range(min(INSPECTED, len(self)))):
            try:
                with opened(path, 2**15) as image:
                    size = image.size
            except Exception:  # damaged files make Pillow raise almost anything; they are reported when decoded
                continue
            if size != (width, height):
                how = f"resized to the {width}x{height} of the model with fit={self.images.fit}"
                return f"images of another size, such as {printable(path)} of {size[0]}x{size[1]} pixels, are {how}"
        return None


def images_at(
    path: Path,
    image_shape: Shape,
    *,
    fit: str = "crop",
    levels: Levels | None = None,
    binarize: str = "none",
    workers: int = 0,
    follow_links: bool = False,
) -> NamedImages:
    """An image file, or those in a folder in the order of their names; the folders in it are their classes.

    Settings are those of ``ImageDataModule``. DataError if there are no images.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}; images must be a folder, a file, or train, val or test")
    if path.is_file():
        paths, classes = [path], list[str]()
    else:
        found = list_images(path, path, follow_links=follow_links)
        paths = [path / each for each in found]
        classes = sorted({each.parts[0] for each in found if len(each.parts) > 1})
    numbers = {name: number for number, name in enumerate(classes)}
    of = [NONE if path.is_file() else numbers.get(each.relative_to(path).parts[0], NONE) for each in paths]
    files = ImageFiles.of(paths, torch.tensor(of), image_shape).with_settings(binarize, levels, fit)
    names = tuple(map(printable, classes))
    return NamedImages(files, image_shape, binarize, files.path, names, workers, levels=levels)
