"""Entries of evaluation.json: a metric's value with sample sizes and standard error, or None with a reason."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from vaezoo.metrics.catalogue import CATALOGUE

Number = dict[str, Any]
Numbers = dict[str, Number]
Vectors = dict[str, list[float]]


def mean_of(values: Tensor, **more: Any) -> Number:
    """Mean over images with its standard error; ``values`` is (N,)."""
    values = values.double()
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return {"value": float(values.mean()), "se": error, "n": len(values), **more}


def missing(names: Iterable[str], reason: str) -> Numbers:
    """Metrics that are not defined, with the reason."""
    return {name: {"value": None, "reason": reason} for name in names}


def names_of(section: str) -> list[str]:
    """Names of the metrics in a section of the catalogue."""
    return [name for name, metric in CATALOGUE.items() if metric.section == section]
