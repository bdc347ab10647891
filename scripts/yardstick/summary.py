"""The summary in the JSON record: medians, spreads and ratios to the bare loop, as plain values."""

from collections.abc import Sequence
from typing import Any

from yardstick.spreads import Measurement, Spread, failure, ratios, spread, values
from yardstick.targets import SPEED

KEYS = ("load", "contestant", "repeat", "failed", "optional")
"""What a measurement holds beside its quantities."""


def summarise(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """One entry for each load and contestant, in the order they were first measured."""
    pairs = dict.fromkeys((one["load"], one["contestant"]) for one in measurements)
    return [_entry(measurements, load, contestant) for load, contestant in pairs]


def _entry(measurements: Sequence[Measurement], load: str, contestant: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"load": load, "contestant": contestant}
    reason = failure(measurements, load, contestant)
    if reason is not None:
        return {**entry, "failed": reason}
    mine = [one for one in measurements if (one["load"], one["contestant"]) == (load, contestant)]
    for quantity in dict.fromkeys(key for one in mine for key in one if key not in KEYS):
        entry[quantity] = _plain(spread(values(measurements, load, contestant, quantity).values()))
    if contestant != "bare":
        entry["ratio_to_bare"] = _plain(ratios(measurements, load, contestant, "bare", SPEED))
    return entry


def _plain(found: Spread | None) -> dict[str, float] | None:
    return None if found is None else found._asdict()
