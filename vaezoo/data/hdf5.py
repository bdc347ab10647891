"""Arrays in HDF5 files, of which only the rows that are read are loaded. Needs the extra ``hdf5``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import DataError, one_line
from vaezoo.config.extras import need
from vaezoo.data.arrays import StoredArray

DENSE = 4
"""Rows are read as one block if at most so many times as many are between the first and the last."""


@dataclass
class Hdf5Array:
    """A data set in an HDF5 file, which each process opens itself: the library's state does not survive a fork."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_quick: bool
    _opened: dict[int, Any] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """The array's name and its file."""
        return f"{self.name} in {self.path}"

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        data = self._dataset()
        first, count = int(rows[0]), int(rows[-1] - rows[0]) + 1
        values = data[first : first + count][rows - first] if count <= DENSE * len(rows) else data[rows]
        return np.asarray(values, str if self.dtype.kind == "U" else None)

    def _dataset(self) -> Any:
        process = os.getpid()
        if process not in self._opened:
            self._opened = {process: need("h5py", "hdf5").File(self.path, "r")[self.name]}
        data = self._opened[process]
        return data.asstr() if self.dtype.kind == "U" else data

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": {}}


def open_hdf5(path: Path) -> dict[str, StoredArray]:
    """The data sets of an HDF5 file by name, such as ``train/images``, without reading them; links are not followed.

    DataError if there is none or the file is damaged, ConfigError without the package h5py.
    """
    h5py = need("h5py", "hdf5")
    if not path.is_file():
        raise DataError(f"there is no file {path}; set data.root to an HDF5 file")
    found: dict[str, StoredArray] = {}

    def add(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            texts = h5py.check_string_dtype(node.dtype) is not None
            dtype = np.dtype("U1") if texts else node.dtype
            found[name] = Hdf5Array(path, name, node.shape, dtype, node.chunks is None)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(add)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"{path} is not a sound HDF5 file: {one_line(error)}; save it again") from error
    if not found:
        raise DataError(f"there is no array in {path}; set data.root to a file with images")
    return found
