"""Medians, spreads and ratios of measurements. It measures nothing."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

Measurement = dict[str, Any]
"""``load``, ``contestant``, ``repeat`` and what was found; or ``failed`` with the reason."""


class Spread(NamedTuple):
    """The median of some numbers, and the least and the largest of them."""

    median: float
    least: float
    largest: float
    repeats: int


def spread(values: Iterable[float]) -> Spread | None:
    """Of the numbers there are; None if there are none."""
    found = list(values)
    return Spread(median(found), min(found), max(found), len(found)) if found else None


def values(measurements: Sequence[Measurement], load: str, contestant: str, quantity: str) -> dict[int, float]:
    """A quantity by repeat."""
    mine = [one for one in measurements if (one["load"], one["contestant"]) == (load, contestant)]
    return {one["repeat"]: one[quantity] for one in mine if quantity in one}


def ratios(measurements: Sequence[Measurement], load: str, over: str, under: str, quantity: str) -> Spread | None:
    """One contestant's quantity over another's, of the same repeat each time, so that slow minutes cancel out."""
    above, below = values(measurements, load, over, quantity), values(measurements, load, under, quantity)
    return spread(above[repeat] / below[repeat] for repeat in above if repeat in below)


def differences(measurements: Sequence[Measurement], load: str, over: str, under: str, quantity: str) -> Spread | None:
    """Likewise, subtracted."""
    above, below = values(measurements, load, over, quantity), values(measurements, load, under, quantity)
    return spread(above[repeat] - below[repeat] for repeat in above if repeat in below)


def failure(measurements: Sequence[Measurement], load: str, contestant: str) -> str | None:
    """Why there are no numbers of a contestant, if there are none."""
    mine = [one for one in measurements if (one["load"], one["contestant"]) == (load, contestant)]
    reasons = [one["failed"] for one in mine if "failed" in one]
    return reasons[0] if reasons and len(reasons) == len(mine) else None
