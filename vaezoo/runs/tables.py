"""Tables with a row for each image, written part by part, so that they need not fit in memory: csv, npz and parquet.

Nothing is left of a table that was not completed.
"""

import csv
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import need
from vaezoo.runs.outputs import output

Columns = Mapping[str, NDArray[Any]]
"""Arrays by name, with as many rows (B,) or (B, ...) each."""

MOST_COLUMNS = 2**13
"""Maximum number of columns of a csv or parquet file, which programs can still open."""

ROW_GROUP = 2**14
"""Minimum number of rows that are written together to a parquet file, whose parts are compressed separately."""


class Table(Protocol):
    """A table that is being written; every part has the same columns."""

    def add(self, columns: Columns) -> None:
        """Append rows."""

    def finish(self) -> None:
        """Write what is left."""

    def close(self) -> None:
        """Close all files, and remove temporary ones."""


def flat(columns: Columns) -> dict[str, NDArray[Any]]:
    """One-dimensional columns: those of the array ``code`` (B, D) are ``z0``, ``z1``, ...; others are numbered too."""
    found: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        if values.ndim == 1:
            found[name] = values
            continue
        prefix = {"code": "z", "indices": "index"}.get(name, name)
        found |= {f"{prefix}{at}": column for at, column in enumerate(values.reshape(len(values), -1).T)}
    if len(found) > MOST_COLUMNS:
        raise ConfigError(
            f"a csv or parquet file has at most {MOST_COLUMNS:,} columns, and this one would have {len(found):,};"
            " choose out=FILE.npz"
        )
    return found


class CsvTable:
    """Comma-separated values with a header; numbers have as many digits as they need."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.names = list[str]()

    def add(self, columns: Columns) -> None:
        """Append rows."""
        rows = flat(columns)
        if not self.names:
            self.names = list(rows)
            self.writer.writerow(self.names)
        self.writer.writerows(zip(*(rows[name].astype(str).tolist() for name in self.names), strict=True))

    def finish(self) -> None:
        """Nothing is left to write."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class ParquetTable:
    """Apache Parquet, by pyarrow."""

    def __init__(self, path: Path) -> None:
        self.arrow, self.parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
        self.file = path.open("wb")
        self.writer: Any = None
        self.waiting: list[dict[str, NDArray[Any]]] = []

    def add(self, columns: Columns) -> None:
        """Append rows."""
        self.waiting.append(flat(columns))
        if sum(len(next(iter(part.values()))) for part in self.waiting) >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if not self.waiting:
            return
        names = self.waiting[0].keys()
        part = self.arrow.table({name: np.concatenate([each[name] for each in self.waiting]) for name in names})
        self.writer = self.writer or self.parquet.ParquetWriter(self.file, part.schema)
        self.writer.write_table(part)
        self.waiting = []

    def finish(self) -> None:
        """Write the last rows, and what describes the columns."""
        self._write()
        if self.writer is not None:
            self.writer.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class NpzTable:
    """numpy's npz with one array for each column, as they are: the code is (N, D).

    Rows are gathered in an unnamed file for each column, because an array's header has its number of rows.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.shapes = path, 0, dict[str, tuple[np.dtype[Any], tuple[int, ...]]]()
        self.texts = dict[str, list[NDArray[Any]]]()
        self.closing = ExitStack()
        self.parts = dict[str, Any]()

    def add(self, columns: Columns) -> None:
        """Append rows."""
        self.rows += len(next(iter(columns.values())))
        for name, values in columns.items():
            if values.dtype.kind == "U":  # the width of texts is that of the longest
                self.texts.setdefault(name, []).append(values)
                continue
            if name not in self.parts:
                temporary = TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed with the others
                self.parts[name] = self.closing.enter_context(temporary)
                self.shapes[name] = values.dtype, values.shape[1:]
            self.parts[name].write(np.ascontiguousarray(values).tobytes())

    def finish(self) -> None:
        """Write the archive."""
        with zipfile.ZipFile(self.path, "w", allowZip64=True) as archive:
            for name, parts in self.texts.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.concatenate(parts), allow_pickle=False)
            for name, part in self.parts.items():
                dtype, shape = self.shapes[name]
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header | {"shape": (self.rows, *shape)})
                    part.seek(0)
                    while chunk := part.read(2**22):
                        file.write(chunk)

    def close(self) -> None:
        """Close the unnamed files, which removes them."""
        self.closing.close()


KINDS: dict[str, Callable[[Path], Any]] = {".csv": CsvTable, ".npz": NpzTable, ".parquet": ParquetTable}
"""Formats by the end of a file's name."""


@contextmanager
def writing(path: Path) -> Iterator[Table]:
    """A table that is in the file at the end of the block, in the format of its ending; errors as for ``output``."""
    with output(path) as new:
        table: Table = KINDS[path.suffix.lower()](new)
        try:
            yield table
            table.finish()
        finally:
            table.close()
