"""Labels of any type to the classes of factors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.errors import DataError, printable
from vaezoo.data.images import Factor

NONE = -1
"""The label of images without one."""


def as_classes(
    labels: Mapping[str, NDArray[Any] | None],
    counts: Mapping[str, int],
    name: str,
    where: str,
    names: Sequence[str] = (),
) -> tuple[dict[str, Tensor], tuple[Factor, ...]]:
    """The labels of each split as classes, int64 (N,) or (N, F), and the factor of each column.

    ``labels`` are (N,), (N, 1) or (N, F): whole numbers, of which negative ones and NaN are no label, texts, of which
    empty ones are none, or booleans; None for a split without labels, of which there are ``counts``. A factor's classes
    are the values in all splits, sorted. ``names`` are those of the values 0, 1, ..., if they have any. DataError for
    others, with the array's ``name`` and file, ``where``.
    """
    columns = {
        split: _columns(values, counts[split], name, where) for split, values in labels.items() if values is not None
    }
    widths = {values.shape[1] for values in columns.values()}
    if len(widths) > 1:
        raise DataError(f"{name} in {where} must have as many columns in each split, got {sorted(widths)}; repair it")
    width = widths.pop() if widths else 0
    factors = [_factor(name, at, width, [values[:, at] for values in columns.values()]) for at in range(width)]
    if width == 0 or (width == 1 and len(factors[0].values) < 2):  # a single class carries no information
        return {split: torch.full((count,), NONE) for split, count in counts.items()}, ()
    found = {}
    for split, count in counts.items():
        classes = np.full((count, width), NONE, np.int64)
        if split in columns:
            for at, factor in enumerate(factors):
                classes[:, at] = _positions(columns[split][:, at], factor)
        found[split] = torch.from_numpy(classes[:, 0].copy() if width == 1 else classes)
    if width == 1:
        factors = [_named(factors[0], names)]
    return found, tuple(factors)


def _columns(values: NDArray[Any], count: int, name: str, where: str) -> NDArray[Any]:
    """Labels as texts or whole numbers (N, F)."""
    if values.ndim not in (1, 2) or len(values) != count:
        raise DataError(
            f"{name} in {where} must have one row of labels for each of {count:,} images, got the shape {values.shape};"
            " repair it, or set data.label_key=none"
        )
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), NONE, values)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "biuU":
        raise DataError(
            f"{name} in {where} must be whole numbers or texts to be labels, got values of type {values.dtype};"
            " set data.label_key to another, or to none"
        )
    return values.reshape(count, -1)


def _factor(name: str, at: int, width: int, columns: list[NDArray[Any]]) -> Factor:
    values = np.unique(np.concatenate(columns))
    known = values[values != ""] if values.dtype.kind == "U" else values[values >= 0]
    return Factor("class" if width == 1 else f"{name} {at + 1}", tuple(printable(str(value)) for value in known))


def _named(factor: Factor, names: Sequence[str]) -> Factor:
    """The factor with the names of its values 0, 1, ...; as it is if some have none."""
    places = [int(value) if str(value).isdecimal() else len(names) for value in factor.values]
    if max(places) >= len(names):
        return factor
    return Factor(factor.name, tuple(printable(names[place]) for place in places))


def _positions(values: NDArray[Any], factor: Factor) -> NDArray[np.int64]:
    """The class of each value; -1 for those that are no class."""
    number = {value: at for at, value in enumerate(factor.values)}
    different, places = np.unique(values, return_inverse=True)
    classes = np.array([number.get(printable(str(value)), NONE) for value in different], np.int64)
    return classes[places.reshape(-1)]
