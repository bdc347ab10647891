"""Sources of images and of tables by name; each returns a ``Pool``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import downloads, sprites
from vaezoo.data.array_files import Arrays, choose, open_arrays
from vaezoo.data.files import ImageFiles
from vaezoo.data.folders import open_folder
from vaezoo.data.hdf5 import open_hdf5
from vaezoo.data.hf import Columns, open_columns
from vaezoo.data.images import Factor, ImageTensor, Pool
from vaezoo.data.own import OwnData, open_own
from vaezoo.data.pixels import Shape, fit
from vaezoo.data.tables import Tables, open_tables

NAMES = ("digits", "torchvision", "sprites", "image_folder", "array", "hdf5", "hf", "own", "table")
OF_ARRAYS = ("array", "hdf5", "hf", "own")
"""Sources whose images may have any number of channels and any range of values, and know their own shape."""


class Source(NamedTuple):
    """A source of images, and the shape to which they are resized."""

    name: str
    dataset: Any
    root: Path
    image_shape: Shape
    fit: str = "crop"
    follow_links: bool = False
    key: str | None = None
    label_key: str | None = None
    dataset_options: dict[str, Any] | None = None
    columns: Sequence[str] | None = None

    def prepare(self, limit: int | None) -> None:
        """Download or render what ``open`` needs; ``limit`` is the number of training images, None for all."""
        if self.name == "torchvision":
            _download(downloads.find_class(self.dataset), self.root)
        if self.name == "sprites" and (limit is None or limit > sprites.COUNT // 4):
            sprites.write_cache(self.root)

    def open(self) -> Pool:
        """The images, without decoding files or rendering sprites."""
        if self.name == "digits":
            return _digits(self.image_shape, self.fit)
        if self.name == "torchvision":
            return _torchvision(downloads.find_class(self.dataset), self.root, self.image_shape, self.fit)
        if self.name == "sprites":
            return Pool(sprites.Lattice(self.root, np.arange(sprites.COUNT)), None, None, sprites.FACTORS)
        if self.name in (*OF_ARRAYS, "table"):
            return self.opened().pool(self.image_shape, str(self.root))
        return open_folder(self.root, self.image_shape, follow_links=self.follow_links)

    def opened(self) -> Arrays | Columns | OwnData | Tables:
        """What a source in ``OF_ARRAYS`` or a table has, of which only shapes and types are read; DataError if none."""
        if self.name == "own":
            return open_own(self.dataset, self.dataset_options, self.key, self.label_key)
        if self.name == "table":
            return open_tables(self.root, self.columns, self.key, self.label_key)
        if self.name == "hf":
            return open_columns(self.root, self.key, self.label_key)
        arrays = open_hdf5(self.root) if self.name == "hdf5" else open_arrays(self.root)
        return choose(arrays, self.root, self.key, self.label_key)


def _digits(image_shape: Shape, how: str) -> Pool:
    """1,797 handwritten digits of 8x8 pixels, included in scikit-learn (Alpaydin and Kaynak, 1998)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.from_numpy(data.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(data.target).long()
    names = tuple(str(name) for name in data.target_names)
    return Pool(ImageTensor(fit(pixels, image_shape, how), labels), None, None, (Factor("class", names),))


def _download(cls: Any, root: Path) -> None:
    for split in ("train", "test"):
        if not downloads.is_there(cls, root, split):
            downloads.fetch(cls, root, split)
    downloads.note_other_files(cls, root)


def _torchvision(cls: Any, root: Path, image_shape: Shape, how: str) -> Pool:
    if cls.__name__ == "CelebA":
        return _celeba(cls, root, image_shape)
    train, test = (downloads.read(cls, root, split) for split in ("train", "test"))
    labels = _labels(train)
    names = getattr(train, "classes", None) or range(int(labels.max()) + 1)
    factor = Factor("class", tuple(str(name) for name in names))
    parts = [ImageTensor(fit(_pixels(part), image_shape, how), _labels(part)) for part in (train, test)]
    return Pool(parts[0], None, parts[1], (factor,))


def _labels(part: Any) -> Tensor:
    """Classes (N,), which torchvision's data sets call either labels or targets."""
    labels = part.targets if hasattr(part, "targets") else part.labels
    return torch.as_tensor(labels).long()


def _pixels(part: Any) -> Tensor:
    """A data set's array as uint8 (N, C, H, W), from (N, H, W), (N, H, W, 3) or (N, 3, H, W)."""
    if not hasattr(part, "data"):
        raise ConfigError(
            f"data.dataset={type(part).__name__} contains files, not an array; use data=image_folder for it"
        )
    pixels = torch.as_tensor(part.data)
    if pixels.ndim == 3:
        return pixels.unsqueeze(1)
    return pixels if pixels.shape[1] == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def _celeba(cls: Any, root: Path, image_shape: Shape) -> Pool:
    """Aligned faces in their three official splits, labelled with 40 attributes (Liu et al., 2015)."""
    parts, folder = {}, root / cls.base_folder / "img_align_celeba"
    for split in ("train", "valid", "test"):
        part = downloads.read(cls, root, split)
        parts[split] = ImageFiles.of([folder / name for name in part.filename], part.attr.long(), image_shape)
    factors = tuple(Factor(name, ("no", "yes")) for name in part.attr_names if name)
    if len(factors) != parts["train"].labels.shape[1]:
        raise DataError(f"the attributes of CelebA in {folder.parent} are incomplete; download them again")
    return Pool(parts["train"], parts["valid"], parts["test"], factors)
