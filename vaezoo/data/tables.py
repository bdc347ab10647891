"""Tables of numbers, whose columns are standardised by the training split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.errors import ConfigError, DataError, printable
from vaezoo.data.array_files import NO_LABELS
from vaezoo.data.images import ImageTensor, Pool
from vaezoo.data.labels import as_classes
from vaezoo.data.pixels import Shape
from vaezoo.data.table_files import TableFile, files_of_splits, listed


class Standardization(NamedTuple):
    """Columns of a table by name, and their means and standard deviations over the training split, (D,) each."""

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image_shape(self, channels: int | None = None) -> Shape:
        """(1, 1, D)."""
        return 1, 1, len(self.columns)

    def as_settings(self) -> dict[str, list[Any]]:
        """As values of ``data.columns``, ``mean`` and ``std``."""
        return {name: list(values) for name, values in self._asdict().items()}

    def apply(self, values: NDArray[np.float64]) -> Tensor:
        """Standardised rows: (N, D) -> float32 (N, 1, 1, D)."""
        scaled = (values - np.array(self.mean)) / np.array(self.std)
        return torch.from_numpy(scaled.astype(np.float32))[:, None, None]


def given(columns: Any, mean: Any, std: Any) -> Standardization | None:
    """That of the settings ``data.columns``, ``mean`` and ``std``; None unless set, ConfigError if they do not fit."""
    if mean is None and std is None:
        return None
    numbers = [
        isinstance(each, list | tuple) and all(type(value) in (int, float) and math.isfinite(value) for value in each)
        for each in (mean, std)
    ]
    if not all(numbers) or not isinstance(columns, list | tuple) or not len(columns) == len(mean) == len(std):
        raise ConfigError(
            "data.mean and data.std must be lists with a number for each of data.columns, or null for those of the"
            " training split"
        )
    if min(std, default=1) <= 0:
        raise ConfigError(f"data.std must be positive numbers, got {min(std):g}; set data.mean and data.std to null")
    return Standardization(tuple(columns), tuple(map(float, mean)), tuple(map(float, std)))


@dataclass(frozen=True)
class Rows:
    """Rows of a table as they are, float64 (N, D), with labels (N,) or (N, F), and the names of the columns."""

    values: NDArray[np.float64]
    labels: Tensor
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    def select(self, positions: NDArray[np.int64]) -> "Rows":
        """The rows at ``positions`` (N,), in that order."""
        return Rows(self.values[positions], self.labels[torch.from_numpy(positions)], self.columns)

    def standardization(self) -> Standardization:
        """That of these rows; a column of one value keeps its scale, so it becomes 0."""
        mean, std = self.values.mean(0), self.values.std(0)
        equal = (self.values == self.values[0]).all(0)  # whose computed spread need not be 0
        mean, std = np.where(equal, self.values[0], mean), np.where(equal, 1.0, std)
        return Standardization(self.columns, tuple(mean.tolist()), tuple(std.tolist()))

    def standardized(self, by: Standardization) -> ImageTensor:
        """The rows as they are trained on: float32 (N, 1, 1, D)."""
        return ImageTensor(by.apply(self.values), self.labels)


class Tables(NamedTuple):
    """The tables of each split; ``columns`` are those that are read."""

    files: dict[str, TableFile]
    columns: tuple[str, ...]
    label_name: str

    def image_shape(self, channels: int | None = None) -> Shape:
        """(1, 1, D)."""
        return 1, 1, len(self.columns)

    def pool(self, image_shape: Shape, where: str) -> Pool:
        """The rows of each split with their labels; DataError if some values are no finite numbers."""
        read = {split: file.read(self.columns) for split, file in self.files.items()}
        for values, _ in read.values():
            _refuse_not_finite(values, self.columns, where)
        counts = {split: len(values) for split, (values, _) in read.items()}
        for split, count in counts.items():
            if not count:
                raise DataError(f"the {split} split of {where} has no rows; set data.root to a table that has some")
        classes, factors = as_classes(
            {name: labels for name, (_, labels) in read.items()}, counts, self.label_name, where
        )
        parts = {split: Rows(values, classes[split], self.columns) for split, (values, _) in read.items()}
        return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)


def open_tables(root: Path, columns: Sequence[str] | None, key: str | None, label_key: str | None) -> Tables:
    """The tables in a file, or of the splits in a folder (train.csv, val.csv, test.csv), of which only heads are read.

    ``columns`` are the names of those wanted, None for all but the label. DataError if there are no such files or
    columns.
    """
    files = files_of_splits(root, key, label_key)
    known = {split: file.columns for split, file in files.items()}
    wanted = tuple(known["train"] if columns is None else columns)
    for split, names in known.items():
        if missing := [name for name in wanted if name not in names]:
            of_split = f" in its {split} split" if len(files) > 1 else ""
            raise DataError(f"{root} has no column {printable(missing[0])}{of_split}; its columns are {listed(names)}")
    if not wanted:
        raise DataError(f"{root} has no columns besides the label; set data.columns to the names of some")
    return Tables(files, wanted, label_key or "label")


def read_rows(path: Path, by: Standardization, key: str | None, label_key: str | None) -> ImageTensor:
    """The rows of a file with the columns of a trained model, standardised as in training, without labels.

    DataError if it does not have these columns.
    """
    files = files_of_splits(path, key, label_key if label_key == NO_LABELS else None)
    if missing := [name for name in by.columns if name not in files["train"].columns]:
        raise DataError(
            f"{path} has no column {printable(missing[0])}, which the model was trained with; its columns are"
            f" {listed(files['train'].columns)}"
        )
    values, _ = files["train"].read(by.columns)
    _refuse_not_finite(values, by.columns, str(path))
    if not len(values):
        raise DataError(f"{path} has no rows; give a table that has some")
    return ImageTensor(by.apply(values), torch.full((len(values),), -1))


def _refuse_not_finite(values: NDArray[np.float64], columns: Sequence[str], where: str) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{where} has {int(wrong.sum()):,} missing or non-finite values, the first in row {row + 1:,} of column"
            f" {printable(columns[column])}; fill them, or leave out such rows or, by data.columns, such columns"
        )
