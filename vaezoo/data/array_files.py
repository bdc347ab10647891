"""Files of arrays (.npy, .npz, folders of .npy): which array has the images, which the labels, of which split."""

import logging
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import DataError, one_line, printable
from vaezoo.data.arrays import ArrayImages, Layout, StoredArray, kind_of_values, layout_of
from vaezoo.data.images import Pool
from vaezoo.data.labels import as_classes
from vaezoo.data.pixels import Shape
from vaezoo.distributed import memory
from vaezoo.distributed.rank_zero import is_rank_zero

IMAGES = ("images", "image", "imgs", "x", "data")
LABELS = ("labels", "label", "y", "targets", "target")
"""Usual names of arrays, looked for in this order; capital letters are the same."""
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}
NO_LABELS = "none"
"""``data.label_key`` of data whose labels are not wanted."""
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""Errors of numpy and zipfile for damaged files."""

logger = logging.getLogger(__name__)


class Arrays(NamedTuple):
    """The arrays with images and with labels by split, and what the labels are called."""

    images: dict[str, StoredArray]
    labels: dict[str, StoredArray]
    label_name: str

    def image_shape(self, channels: int | None) -> Shape:
        """The shape of the training images; ``channels`` are those of the settings."""
        return layout_of(self.images["train"], channels).image_shape

    def pool(self, image_shape: Shape, where: str) -> Pool:
        """The images of each split with their labels; DataError if the splits differ in type or there are none."""
        for array in self.images.values():
            if not len(array.shape) or not array.shape[0]:
                raise DataError(f"{array.where} is empty; set data.root or data.key to an array with images")
        kinds = {split: kind_of_values(array) for split, array in self.images.items()}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{kind} in {split}" for split, kind in kinds.items())
            raise DataError(f"all splits in {where} must have values of one type, got {told}; convert them")
        counts = {split: array.shape[0] for split, array in self.images.items()}
        labels = {split: _all_of(self.labels[split]) if split in self.labels else None for split in counts}
        classes, factors = as_classes(labels, counts, self.label_name, where)
        parts = {
            split: ArrayImages(array, layout_for(array, image_shape), np.arange(len(labels)), labels, image_shape)
            for (split, array), labels in zip(self.images.items(), classes.values(), strict=True)
        }
        return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)


def layout_for(array: StoredArray, image_shape: Shape, layout: Layout | None = None) -> Layout:
    """The layout of images that become ``image_shape``, with a note if they change; DataError if channels cannot.

    ``layout`` is that of the array if it is known.
    """
    layout = layout or layout_of(array, image_shape[0])
    (channels, *size), (wanted, *side) = layout.image_shape, image_shape
    if channels not in (wanted, 1) and (channels, wanted) != (3, 1):
        raise DataError(
            f"{array.where} has images of {channels} channels, which cannot become images of {wanted}; leave out"
            " data.channels"
        )
    if layout.image_shape != image_shape and is_rank_zero():
        logger.info(
            "images      %s has %dx%d of %d channels, resized to %dx%d of %d",
            array.where,
            *size,
            channels,
            *side,
            wanted,
        )
    return layout


def _all_of(array: StoredArray) -> NDArray[Any]:
    if array.dtype.hasobject:
        raise DataError(f"{array.where} holds Python objects, which are never loaded; save numbers or texts")
    memory.refuse_beyond(math.prod(array.shape) * array.dtype.itemsize, array.where, "set data.label_key=none")
    if not array.shape or not array.shape[0]:
        return np.empty(0, np.int64)
    return array.read(np.arange(array.shape[0]))


def choose(arrays: Mapping[str, StoredArray], where: Path, key: str | None, label_key: str | None) -> Arrays:
    """The arrays with images and labels among all of a file, by these names or else by the usual ones.

    DataError if there is none, or splits but none for training.
    """
    names = list(arrays)
    images = _named(names, (key,) if key else IMAGES)
    if not images and key is None and len(names) == 1:
        images = {"train": names[0]}
    if not images:
        raise DataError(_not_found(where, names, "key", key, IMAGES))
    if "train" not in images:
        raise DataError(f"{where} has {' and '.join(images.values())}, but no array of training images; add one")
    rest = [name for name in names if name not in images.values()]
    labels = {} if label_key == NO_LABELS else _named(rest, (label_key,) if label_key else LABELS)
    if label_key not in (None, NO_LABELS) and "train" not in labels:
        raise DataError(_not_found(where, rest, "label_key", label_key, LABELS))
    found = {split: arrays[name] for split, name in labels.items() if split in images}
    return Arrays({split: arrays[name] for split, name in images.items()}, found, label_key or "labels")


def _not_found(where: Path, names: list[str], setting: str, asked: str | None, usual: tuple[str, ...]) -> str:
    there = ", ".join(printable(name) for name in names[:10]) or "no array"
    wanted = f"called {asked}" if asked else f"called {', '.join(usual[:-1])} or {usual[-1]}"
    return f"{where} has {there}, but no array {wanted}; set data.{setting} to the name of one"


def _named(names: list[str], bases: tuple[str, ...]) -> dict[str, str]:
    """The arrays of the first of these names that there are, by split; a single one is of training images."""
    by_name = {name.lower(): name for name in names}
    for base in (base.lower() for base in bases):
        found = {
            split: by_name[name]
            for split, words in SPLITS.items()
            for word in words
            for name in (f"{word}_{base}", f"{base}_{word}", f"{word}/{base}")
            if name in by_name
        }
        if base in by_name:
            return {"train": by_name[base]}
        if found:
            return found
    return {}


# .npy and .npz -------------------------------------------------------------------------------------------------------


def open_arrays(root: Path) -> dict[str, StoredArray]:
    """The arrays in a .npy or .npz file or a folder of .npy files by name, without reading more than their headers.

    DataError if there are none, or if the file is damaged.
    """
    if root.is_dir():
        files = sorted(path for path in root.glob("*.npy") if path.is_file())
        if not files:
            raise DataError(f"there is no .npy file in {root}; set data.root to a file or folder with arrays")
        return {path.stem: _npy(path) for path in files}
    if not root.is_file():
        raise DataError(f"there is no file {root}; set data.root to a .npy or .npz file, or a folder of .npy files")
    if root.suffix.lower() == ".npy":
        return {root.stem: _npy(root)}
    if root.suffix.lower() == ".npz":
        return _npz(root)
    raise DataError(f"data.root must be a .npy or .npz file, or a folder of .npy files, got {root}")


@dataclass
class NpyArray:
    """An array in a .npy file, mapped into memory, of which only the rows that are read are loaded."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_quick = True

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    @cached_property
    def _mapped(self) -> NDArray[Any]:
        mapped: NDArray[Any] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return mapped

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self._mapped[rows])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_mapped"}  # each process maps it itself


@dataclass
class NpzArray:
    """An array in a .npz file, which is compressed as a whole, so it is read as a whole when it is first needed."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_quick = True

    @property
    def where(self) -> str:
        """The array's name and its file."""
        return f"{self.name} in {self.path}"

    @cached_property
    def _values(self) -> NDArray[Any]:
        size = math.prod(self.shape) * self.dtype.itemsize
        memory.refuse_beyond(size, self.where, "save it as a .npy file, which is not read as a whole")
        try:
            with np.load(self.path, allow_pickle=False) as content:
                values: NDArray[Any] = content[self.name]
        except UNREADABLE as error:
            raise DataError(f"{self.where} cannot be read: {one_line(error)}; save it again") from error
        return values

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self._values[rows]


def _npy(path: Path) -> NpyArray:
    try:
        with path.open("rb") as file:
            shape, dtype = _header(file, path.stat().st_size)
    except UNREADABLE as error:
        raise DataError(f"{path} is not a sound .npy file: {one_line(error)}; save it again") from error
    return NpyArray(path, shape, dtype)


def _npz(path: Path) -> dict[str, StoredArray]:
    found: dict[str, StoredArray] = {}
    try:
        with zipfile.ZipFile(path) as content:
            for info in content.infolist():
                if info.filename.endswith(".npy"):
                    with content.open(info) as file:
                        name = info.filename.removesuffix(".npy")
                        found[name] = NpzArray(path, name, *_header(file, info.file_size))  # type: ignore[arg-type]
    except UNREADABLE as error:
        raise DataError(f"{path} is not a sound .npz file: {one_line(error)}; save it again") from error
    if not found:
        raise DataError(f"there is no array in {path}; set data.root to a file with images")
    return found


def _header(file: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type in the header of a .npy file of so many bytes; ValueError if the file is too short for them."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"its format has version {version[0]}.{version[1]}, of arrays of records")
    shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it has {size:,} bytes, too few for an array of shape {shape}")
    return shape, dtype
