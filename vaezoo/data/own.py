"""Data sets of one's own: objects, or from a class or function that is named as ``package.module:name``."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from vaezoo.config import own_code
from vaezoo.config.errors import ConfigError, DataError
from vaezoo.config.validation import check_arguments
from vaezoo.data.array_files import IMAGES, LABELS, NO_LABELS, layout_for
from vaezoo.data.arrays import ArrayImages, Layout, kind_of_values
from vaezoo.data.images import Pool
from vaezoo.data.labels import as_classes
from vaezoo.data.pixels import Shape

KEY = "data.dataset"
PLAIN = ("1", "L", "RGB", "RGBA", "I;16", "F")
"""Modes of PIL images whose values are pixels."""
Keys = tuple[str | None, str | None]
"""Names of image and label in items that are mappings; None for the usual ones."""
LOADERS = {"train": "train_dataloader", "val": "val_dataloader", "test": "test_dataloader"}


class OwnData(NamedTuple):
    """The data sets of each split, from the class or function called ``name``."""

    datasets: dict[str, Any]
    name: str
    keys: Keys

    def image_shape(self, channels: int | None) -> Shape:
        """The shape of the first training image."""
        array = ItemArray(self.datasets["train"], self.name, self.keys)
        kind_of_values(array)
        channels, height, width = array.shape[1:]
        return channels, height, width

    def pool(self, image_shape: Shape, where: str) -> Pool:
        """The images of each split with their labels; DataError if a split is empty."""
        counts = {split: len(dataset) for split, dataset in self.datasets.items()}
        if not all(counts.values()):
            raise DataError(f"{self.name} has a split without images; leave it out or add some")
        known = self.keys[1] != NO_LABELS
        labels = {split: _labels(dataset, self.keys) if known else None for split, dataset in self.datasets.items()}
        classes, factors = as_classes(labels, counts, "labels", self.name, _names(self.datasets["train"]))
        parts = {
            split: self._part(split, ItemArray(dataset, self.name, self.keys), classes[split], image_shape)
            for split, dataset in self.datasets.items()
        }
        return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)

    def _part(self, split: str, array: "ItemArray", labels: Tensor, image_shape: Shape) -> ArrayImages:
        channels, height, width = array.shape[1:]
        layout = layout_for(array, image_shape, Layout((channels, height, width), 1))
        return ArrayImages(array, layout, np.arange(len(labels)), labels, image_shape)


@dataclass
class ItemArray:
    """The images of a map-style data set, all of one size, as rows of an array (N, C, H, W)."""

    dataset: Any
    name: str
    keys: Keys
    is_quick = False

    @property
    def where(self) -> str:
        """The class or function that the data set is from."""
        return self.name

    @cached_property
    def _first(self) -> NDArray[Any]:
        return _image_of(self.dataset[0], self.keys) if len(self.dataset) else np.zeros((1, 8, 8), np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W), of which the first image decides the rest."""
        return (len(self.dataset), *self._first.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the first image."""
        return self._first.dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The images (N,): (N, C, H, W); ValueError if one has another shape or type."""
        images = [_image_of(self.dataset[int(row)], self.keys) for row in rows]
        other = next((image for image in images if image.shape != self.shape[1:] or image.dtype != self.dtype), None)
        if other is not None:
            raise ValueError(
                f"there is an image of shape {other.shape} and type {other.dtype}, and the first has {self.shape[1:]}"
                f" and {self.dtype}; make them alike in the data set"
            )
        return np.stack(images)


def _parts_of(item: Any, keys: Keys) -> tuple[Any, Any]:
    """The image and the label of an item; None without a label."""
    if isinstance(item, Mapping):
        image, label = (
            next((item[name] for name in ((key,) if key else usual) if name in item), None)
            for key, usual in zip(keys, (IMAGES, LABELS), strict=True)
        )
        return image, label
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _image_of(item: Any, keys: Keys) -> NDArray[Any]:
    """The image of an item as (C, H, W).

    It is a tensor (H, W) or (C, H, W), or a PIL image or array (H, W) or (H, W, C).
    """
    image, _ = _parts_of(item, keys)
    if isinstance(image, Image.Image) and image.mode not in PLAIN:
        image = image.convert("RGB")
    if isinstance(image, Tensor):
        values = image.detach().cpu().numpy()
    else:
        values = np.asarray(image)
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else values
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.dtype.kind not in "buif":
        raise DataError(
            f"items of {KEY} must be an image, (image, label) or a mapping with image and label, where an image is a"
            f" tensor (C, H, W), or an array or PIL image (H, W, C), got {type(image).__name__}; change the data set"
        )
    return values


def _labels(dataset: Any, keys: Keys) -> NDArray[Any] | None:
    """The labels of all items: ``targets`` or ``labels`` of the data set if it has them, else from its items."""
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        if values is not None and np.shape(values)[:1] == (len(dataset),):
            return np.asarray(values)
    if _parts_of(dataset[0], keys)[1] is None:
        return None
    return np.array([np.asarray(_parts_of(dataset[row], keys)[1]) for row in range(len(dataset))])


def _names(dataset: Any) -> list[str]:
    """The names of classes that torchvision's data sets call ``classes``."""
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


# classes and functions -----------------------------------------------------------------------------------------------


def open_own(source: Any, options: Mapping[str, Any] | None, key: str | None, label_key: str | None) -> OwnData:
    """The data sets of a class or function, by name, that is called with ``options``, or of an object.

    A class or function that takes ``split`` is called with train, val and test, and may return None for the last two.
    A ``LightningDataModule`` is prepared and set up, and the data sets of its loaders are taken. ConfigError for
    options that are not taken, and for data sets without a length.
    """
    name = source if isinstance(source, str) else type(source).__name__
    made = _made(source, dict(options or {})) if isinstance(source, str) else source
    made = _of_loaders(made) if isinstance(made, LightningDataModule) else made
    found = made if isinstance(made, dict) else {"train": made}
    found = {split: dataset for split, dataset in found.items() if dataset is not None}
    for dataset in found.values():
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise ConfigError(
                f"{KEY}={name} must make data sets with __len__ and __getitem__, got {type(dataset).__name__};"
                " the order of others could not be resumed"
            )
    if "train" not in found:
        raise ConfigError(f"{KEY}={name} makes no data set for training; return one for split='train'")
    return OwnData(found, name, (key, label_key))


def _made(name: str, options: dict[str, Any]) -> Any:
    """What the class or function called ``name`` makes, by split if it takes one."""
    make = own_code.located(name, KEY)
    takes_split = "split" in inspect.signature(make).parameters
    check_arguments(make, options, key="data.dataset_options", extra=("split",) if takes_split else ())
    return {split: make(split=split, **options) for split in LOADERS} if takes_split else make(**options)


def _of_loaders(module: LightningDataModule) -> dict[str, Any]:
    module.prepare_data()
    module.setup("fit")
    module.setup("test")
    found = {}
    for split, method in LOADERS.items():
        if getattr(type(module), method) is getattr(LightningDataModule, method):
            continue  # not implemented
        loader = getattr(module, method)()
        if not isinstance(loader, DataLoader):
            raise ConfigError(
                f"{KEY}: {type(module).__name__}.{method} must return one DataLoader, whose data set is taken, got"
                f" {type(loader).__name__}"
            )
        found[split] = loader.dataset
    return found
