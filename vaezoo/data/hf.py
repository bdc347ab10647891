"""Parquet and Arrow files through Hugging Face's ``datasets``, on this machine only. Needs the extra ``hf``."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageOps
from torch import Tensor

from vaezoo.config.errors import DataError, one_line
from vaezoo.config.extras import need
from vaezoo.data.array_files import IMAGES, LABELS, NO_LABELS, SPLITS, layout_for
from vaezoo.data.arrays import ArrayImages, kind_of_values, layout_of
from vaezoo.data.files import EncodedImages, opened
from vaezoo.data.images import Pool
from vaezoo.data.labels import NONE, as_classes
from vaezoo.data.on_disk import ImagesOnDisk
from vaezoo.data.pixels import Shape

COLUMNS = (*IMAGES, "img", "pixel_values")
"""Usual names of columns with images."""
LARGE = 2**14
"""Pixels of a side to which no JPEG is reduced."""


@dataclass(frozen=True)
class ColumnImages(EncodedImages):
    """Rows of a column of encoded images, which are decoded on access as files are."""

    table: Any
    column: str
    where: str
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, positions: NDArray[np.int64]) -> "ColumnImages":
        """The rows at ``positions`` (N,), in that order."""
        return replace(self, rows=self.rows[positions], labels=self.labels[torch.from_numpy(positions)])

    def path(self, position: int) -> str:
        """Column and row of the image at ``position``."""
        return f"{self.column} in {self.where}[{self.rows[position]}]"

    def content(self, position: int) -> bytes:
        """The bytes of the image; ValueError if there is only a path or an address."""
        return _bytes_of(self.table[int(self.rows[position])][self.column])


def _bytes_of(value: Any) -> bytes:
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise ValueError("it has no bytes of an image; embed files before they are saved, or use data=image_folder")
    return content


@dataclass
class ColumnArray:
    """A column of arrays of numbers, all of one shape."""

    table: Any
    column: str
    file: str
    is_quick = False

    @property
    def where(self) -> str:
        """The column and its file."""
        return f"{self.column} in {self.file}"

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers; DataError if they are none."""
        feature = self.table.features[self.column]
        while (inner := _inner(feature)) is not None:
            feature = inner
        kind = getattr(feature, "dtype", type(feature).__name__)
        try:
            return np.dtype(kind)
        except TypeError as error:
            raise DataError(f"{self.where} holds values of type {kind}, which are not images; set data.key") from error

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(N, ...), of which the first row decides the rest."""
        if not len(self.table):
            return (0,)
        first = self.table[0][self.column]
        return (len(self.table), *np.shape(first))

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The rows (N,): (N, ...); ValueError if one has another shape."""
        from pyarrow.compute import list_value_length

        column = self.table.with_format("arrow")[rows.tolist()][self.column].combine_chunks()
        column = getattr(column, "storage", column)
        for size in self.shape[1:]:
            if (np.asarray(list_value_length(column)) != size).any():
                raise ValueError(f"its rows differ in shape: not all are {self.shape[1:]}")
            column = column.flatten()
        return np.asarray(column.to_numpy(zero_copy_only=False), self.dtype).reshape(len(rows), *self.shape[1:])


def _inner(feature: Any) -> Any:
    """The feature of a list's elements; None if it is no list."""
    if isinstance(feature, list):
        return feature[0]
    return getattr(feature, "feature", None)


class Columns(NamedTuple):
    """The tables of each split, and the columns with images and labels, None without labels."""

    tables: dict[str, Any]
    column: str
    label: str | None
    where: str

    @property
    def is_encoded(self) -> bool:
        """Whether images are files such as PNG, rather than arrays of numbers."""
        kind = type(self.tables["train"].features[self.column]).__name__
        return kind == "Image" or getattr(self.tables["train"].features[self.column], "dtype", "") == "binary"

    def image_shape(self, channels: int | None) -> Shape:
        """The shape of the first training image; ``channels`` are those of the settings."""
        table = self.tables["train"]
        if not self.is_encoded:
            array = ColumnArray(table, self.column, self.where)
            kind_of_values(array)  # refuses what are no numbers before the first row is read
            return layout_of(array, channels).image_shape
        try:
            with opened(_bytes_of(table[0][self.column]), LARGE) as image:
                width, height = ImageOps.exif_transpose(image).size
                return (1 if image.mode[0] in "1LIF" else 3, height, width)
        except Exception as error:  # damaged files make Pillow raise almost anything
            raise DataError(
                f"the first image of {self.column} in {self.where} cannot be read: {one_line(error)}"
            ) from error

    def pool(self, image_shape: Shape, where: str) -> Pool:
        """The images of each split with their labels."""
        counts = {split: len(table) for split, table in self.tables.items()}
        labels = {split: self._labels(table) for split, table in self.tables.items()}
        names = getattr(self.tables["train"].features[self.label], "names", ()) if self.label else ()
        classes, factors = as_classes(labels, counts, str(self.label), where, names)
        parts = {split: self._part(table, classes[split], image_shape) for split, table in self.tables.items()}
        return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)

    def _labels(self, table: Any) -> NDArray[Any] | None:
        if self.label is None or self.label not in table.features:
            return None
        values = table.select_columns([self.label]).with_format("arrow")[:][self.label].to_pylist()
        if all(value is None or isinstance(value, int) for value in values):
            values = [NONE if value is None else value for value in values]
        elif all(value is None or isinstance(value, str) for value in values):
            values = ["" if value is None else value for value in values]
        try:
            return np.array(values)
        except ValueError:  # lists of different lengths
            return np.array(values, object)

    def _part(self, table: Any, labels: Tensor, image_shape: Shape) -> ImagesOnDisk:
        rows = np.arange(len(table))
        if self.is_encoded:
            return ColumnImages(labels, image_shape, table.select_columns([self.column]), self.column, self.where, rows)
        array = ColumnArray(table.select_columns([self.column]), self.column, self.where)
        return ArrayImages(array, layout_for(array, image_shape), rows, labels, image_shape)


def open_columns(root: Path, key: str | None, label_key: str | None) -> Columns:
    """The columns of a Parquet or Arrow file, or of a folder of them; nothing but their first rows is read.

    DataError if there are none, or if a file is damaged; ConfigError without the package datasets.
    """
    tables = _tables(root)
    if "train" not in tables:
        raise DataError(f"{root} has {' and '.join(tables)}, but no training images; add a file whose name has train")
    if not all(map(len, tables.values())):
        raise DataError(f"{root} has a table without rows; set data.root to files with images")
    features = tables["train"].features
    column = _column(features, (key,) if key else COLUMNS, "Image")
    if column is None:
        raise DataError(_not_found(root, features, "key", key, COLUMNS))
    rest = {name: feature for name, feature in features.items() if name != column}
    label = None if label_key == NO_LABELS else _column(rest, (label_key,) if label_key else LABELS, "ClassLabel")
    if label is None and label_key not in (None, NO_LABELS):
        raise DataError(_not_found(root, rest, "label_key", label_key, LABELS))
    if type(features[column]).__name__ == "Image":  # so that datasets neither decodes nor downloads
        undecoded = need("datasets", "hf").Image(decode=False)
        tables = {split: table.cast_column(column, undecoded) for split, table in tables.items()}
    return Columns(tables, column, label, str(root))


def _column(features: Any, names: Sequence[str], kind: str) -> str | None:
    """The first column of these names, else the only one of this kind, if several names are usual ones."""
    lower = {name.lower(): name for name in features}
    found = next((lower[name.lower()] for name in names if name.lower() in lower), None)
    typed = [name for name, feature in features.items() if type(feature).__name__ == kind]
    return typed[0] if found is None and len(names) > 1 and len(typed) == 1 else found


def _not_found(where: Path, features: Any, setting: str, asked: str | None, usual: Sequence[str]) -> str:
    wanted = f"called {asked}" if asked else f"called {', '.join(usual[:-1])} or {usual[-1]}"
    there = ", ".join(list(features)[:10]) or "no column"
    return f"{where} has {there}, but no column {wanted}; set data.{setting} to the name of one"


# files ---------------------------------------------------------------------------------------------------------------


def _tables(root: Path) -> dict[str, Any]:
    """The table of each split."""
    datasets = need("datasets", "hf")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # its errors are raised as well
    try:
        if (root / "dataset_dict.json").is_file():
            return {_split_called(name): table for name, table in datasets.load_from_disk(str(root)).items()}
        if (root / "state.json").is_file():
            return {"train": datasets.load_from_disk(str(root))}
        return {split: _table(datasets, files) for split, files in _by_split(root).items()}
    except DataError:
        raise
    except Exception as error:  # pyarrow and datasets raise many kinds for damaged files
        reason = one_line(error.__cause__ or error)
        raise DataError(f"{root} cannot be read as Parquet or Arrow: {reason}; save it again") from error


def _table(datasets: Any, files: list[Path]) -> Any:
    if files[0].suffix == ".parquet":
        return datasets.Dataset.from_parquet([str(file) for file in files])
    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])


def _by_split(root: Path) -> dict[str, list[Path]]:
    """Parquet files, else Arrow files, by the split in their names; all are of training images if none has one."""
    if root.is_file():
        return {"train": [root]}
    if not root.is_dir():
        raise DataError(f"there is no file {root}; set data.root to a Parquet or Arrow file, or a folder of them")
    files = sorted(root.rglob("*.parquet")) or sorted(root.rglob("*.arrow"))
    if not files:
        raise DataError(f"there is no .parquet or .arrow file in {root}; set data.root to a file or folder with images")
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_split_in(str(file.relative_to(root))), []).append(file)
    if "" in found and len(found) > 1:
        raise DataError(
            f"{found[''][0]} does not say of which split it is, as others in {root} do; put train, val or test into its"
            " name, or move it away"
        )
    return {"train": found[""]} if "" in found else found


def _split_in(name: str) -> str:
    words = "|".join(word for group in SPLITS.values() for word in group)
    found = re.search(rf"(?:^|[/_.-])({words})(?=[/_.-])", name.lower())
    return _split_called(found[1]) if found else ""


def _split_called(name: str) -> str:
    return next((split for split, words in SPLITS.items() if name.lower() in words), name)
