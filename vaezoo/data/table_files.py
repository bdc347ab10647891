"""Files of rows (.csv, .parquet, .npy, .npz): their columns, numbers and labels."""

import csv
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import ConfigError, DataError, one_line, printable
from vaezoo.config.extras import need
from vaezoo.data.array_files import LABELS, NO_LABELS, SPLITS, Arrays, choose, open_arrays
from vaezoo.data.labels import NONE
from vaezoo.distributed import memory

KINDS = (".csv", ".parquet", ".npy", ".npz")
TOGETHER = 10_000
"""Lines of a .csv file that are converted at a time."""
SHOWN = 10
"""Maximum names in a message."""


class TableFile(Protocol):
    """A file of rows, whose columns are known without reading all of it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are not the label."""

    def read(self, columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
        """The values of these columns, (N, D), and the labels (N,) if there are any."""


def files_of_splits(root: Path, key: str | None, label_key: str | None) -> dict[str, TableFile]:
    """The files of each split."""
    if root.suffix.lower() in (".npy", ".npz") and not root.is_dir():
        return _of_arrays(choose(open_arrays(root), root, key, label_key))
    if key is not None:
        raise ConfigError(f"data.key names an array of an .npz file, got {key!r} with {root}; leave it out")
    if not root.is_dir():
        return {"train": _file(root, label_key)}
    found = {split: path for split, names in SPLITS.items() if (path := _first(root, names)) is not None}
    if "train" not in found:
        raise DataError(f"there is no train.csv, train.parquet or train.npy in {root}; set data.root to a table")
    return {split: _file(path, label_key) for split, path in found.items()}


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    paths = (folder / f"{name}{kind}" for name, kind in itertools.product(names, KINDS[:3]))
    return next((path for path in paths if path.is_file()), None)


def _file(path: Path, label_key: str | None) -> TableFile:
    if not path.is_file():
        raise DataError(
            f"there is no file {path}; set data.root to a table, a {', '.join(KINDS[:-1])} or {KINDS[-1]} file"
        )
    kind = path.suffix.lower()
    if kind == ".csv":
        return CSVFile.of(path, label_key)
    if kind == ".parquet":
        return ParquetFile.of(path, label_key)
    if kind == ".npy":
        return _of_arrays(choose(open_arrays(path), path, None, label_key))["train"]
    raise DataError(f"a table must be a {', '.join(KINDS[:-1])} or {KINDS[-1]} file, or a folder of them, got {path}")


def _label_of(names: Sequence[str], label_key: str | None, path: Path) -> str | None:
    """The column of labels: the one called ``label_key``, or one of the usual names; None without any."""
    if label_key == NO_LABELS:
        return None
    if label_key is not None:
        if label_key not in names:
            raise DataError(
                f"{path} has no column {printable(label_key)} for data.label_key; its columns are {listed(names)}"
            )
        return label_key
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[usual] for usual in LABELS if usual in lower), None)


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name) for name in names[:SHOWN]) + more


# arrays --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrayFile:
    """Rows of an array (N, D), whose columns are called 0, 1, ..., and an array of labels."""

    rows: Any
    labels: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """0 to D - 1 as texts."""
        return tuple(map(str, range(self.rows.shape[1])))

    def read(self, columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
        """See ``TableFile``."""
        memory.refuse_beyond(8 * math.prod(self.rows.shape), self.rows.where, "use fewer rows or columns")
        everything = np.arange(self.rows.shape[0])
        values = self.rows.read(everything).astype(np.float64)
        labels = None if self.labels is None else self.labels.read(everything)
        return values[:, [int(name) for name in columns]], labels


def _of_arrays(arrays: Arrays) -> dict[str, TableFile]:
    for array in arrays.images.values():
        if array.dtype.kind not in "biuf" or len(array.shape) != 2:
            raise DataError(
                f"{array.where} must be numbers of shape (N, D), N rows of D columns, to be a table, got"
                f" {array.dtype} of shape {tuple(array.shape)}; reshape it, or use data=array for images"
            )
    return {split: ArrayFile(array, arrays.labels.get(split)) for split, array in arrays.images.items()}


# .csv ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CSVFile:
    """Text with a line for each row, and names of the columns in the first one unless it has numbers only.

    Values are separated by commas, semicolons or tabs, whichever the first line has most of.
    """

    path: Path
    names: tuple[str, ...]
    label: str | None
    delimiter: str
    has_names: bool

    @classmethod
    def of(cls, path: Path, label_key: str | None) -> "CSVFile":
        """The file with the columns in its first line; DataError if it is empty or not text."""
        with _text_of(path) as lines:
            first = lines.readline()
        delimiter = max(",;\t", key=first.count)
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if not any(names):
            raise DataError(f"{path} has no columns in its first line; set data.root to a table")
        has_names = not all(map(_is_number, names))
        names = names if has_names else [str(at) for at in range(len(names))]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"{path} has several columns called {printable(repeated)!r}; rename them")
        return cls(path, tuple(names), _label_of(names, label_key, path), delimiter, has_names)

    @property
    def columns(self) -> tuple[str, ...]:
        """All but the label."""
        return tuple(name for name in self.names if name != self.label)

    def read(self, columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
        """See ``TableFile``; DataError for a cell that is no number, and lines of other lengths."""
        places = [self.names.index(name) for name in columns]
        of_label = None if self.label is None else self.names.index(self.label)
        values, labels = [np.empty((0, len(places)))], [np.empty(0, np.str_)]
        for start, cells in self._chunks():
            try:
                values.append(cells[:, places].astype(np.float64))
            except ValueError as error:
                raise DataError(self._not_a_number(cells, places, start)) from error
            labels += [] if of_label is None else [cells[:, of_label]]
        return np.concatenate(values), None if of_label is None else _classes(np.concatenate(labels))

    def _chunks(self) -> Iterator[tuple[int, NDArray[np.str_]]]:
        """Cells (B, D) as texts, with the number of rows before them."""
        start = 0
        with _text_of(self.path) as lines:
            reader = csv.reader(lines, delimiter=self.delimiter)
            if self.has_names:
                next(reader)
            while chunk := [row for row in itertools.islice(reader, TOGETHER) if row]:
                for at, row in enumerate(chunk):
                    if len(row) != len(self.names):
                        raise DataError(
                            f"row {start + at + 1:,} of {self.path} has {len(row)} values, and the first line"
                            f" {len(self.names)}; repair it"
                        )
                yield start, np.char.strip(np.array(chunk, np.str_))
                start += len(chunk)

    def _not_a_number(self, cells: NDArray[np.str_], places: Sequence[int], start: int) -> str:
        row, at = next(
            (row, at) for row, at in np.ndindex(len(cells), len(places)) if not _is_number(cells[row, places[at]])
        )
        name, cell = self.names[places[at]], str(cells[row, places[at]])
        return (
            f"{self.path} has {printable(cell[:50])!r} in row {start + row + 1:,} of column {printable(name)}, where a"
            f" number is wanted; name the columns with numbers in data.columns, or that of the labels in data.label_key"
        )


@contextmanager
def _text_of(path: Path) -> Iterator[TextIO]:
    """The file opened as text; DataError if it cannot be read as such."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield lines
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as text: {one_line(error)}; save it as UTF-8") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _classes(labels: NDArray[np.str_]) -> NDArray[Any]:
    """Labels as whole numbers if all of them are, else as texts; empty cells are none."""
    try:
        return np.where(labels == "", str(NONE), labels).astype(np.int64)
    except ValueError:
        return labels


# .parquet ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file with a column of numbers for each of the table's (extra: parquet)."""

    path: Path
    names: tuple[str, ...]
    label: str | None

    @classmethod
    def of(cls, path: Path, label_key: str | None) -> "ParquetFile":
        """The file with the columns of its schema; DataError if it is damaged."""
        parquet = need("pyarrow.parquet", "parquet")
        try:
            names = parquet.read_schema(path).names
        except Exception as error:  # pyarrow raises many kinds for damaged files
            raise DataError(f"{path} is not a sound Parquet file: {one_line(error)}; save it again") from error
        return cls(path, tuple(names), _label_of(names, label_key, path))

    @property
    def columns(self) -> tuple[str, ...]:
        """All but the label."""
        return tuple(name for name in self.names if name != self.label)

    def read(self, columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
        """See ``TableFile``; DataError for a column that does not hold numbers."""
        parquet = need("pyarrow.parquet", "parquet")
        wanted = [*columns, *([] if self.label is None else [self.label])]
        try:
            table = parquet.read_table(self.path, columns=wanted)
        except Exception as error:
            raise DataError(f"{self.path} is not a sound Parquet file: {one_line(error)}; save it again") from error
        found = {name: table.column(name).to_numpy() for name in wanted}
        for name in columns:
            if found[name].dtype.kind not in "biuf":
                raise DataError(
                    f"column {printable(name)} of {self.path} holds {table.schema.field(name).type}, where numbers are"
                    " wanted; name the columns with numbers in data.columns, or that of the labels in data.label_key"
                )
        values = np.stack([found[name].astype(np.float64) for name in columns], 1)
        labels = None if self.label is None else found[self.label]
        if labels is not None and labels.dtype == object:
            labels = np.array(["" if label is None else str(label) for label in labels])
        return values, labels
