"""Performance targets for vaezoo relative to the other contestants, and whether they are met."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from yardstick.spreads import Measurement, Spread, differences, ratios

SPEED = "images_per_second"
SECONDS = "seconds"
START = "start"
"""The name that start-up times have among the loads."""


@dataclass(frozen=True)
class Target:
    """A bound on a ratio (or difference) of two contestants' medians, by device."""

    what: str
    load: str
    over: str
    under: str
    quantity: str
    sign: str
    bounds: dict[str, float]
    combine: Callable[[Sequence[Measurement], str, str, str, str], Spread | None] = ratios


@dataclass(frozen=True)
class Verdict:
    """A target on one device, with what was measured."""

    what: str
    bound: str
    measured: Spread | None
    outcome: str
    """reached, missed or not measured"""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it, by names."""
        return {**vars(self), "measured": None if self.measured is None else self.measured._asdict()}


def targets(device: str) -> list[Target]:
    """All targets that there are on a device."""
    memory = "cuda_allocated_bytes" if device == "cuda" else "process_bytes"
    speed = [
        _speed("mnist-mlp", "bare", cpu=0.95, cuda=1.0),
        _speed("digits-mlp", "bare", cpu=0.80, cuda=1.0),
        _speed("sprites-conv", "bare", cpu=0.95, cuda=1.0),
        _speed("cifar-resnet", "bare", cpu=0.95, cuda=1.0),
        _speed("mnist-mlp", "bare-graph", cuda=0.80),
        _speed("mnist-mlp", "textbook-2", cpu=1.8, cuda=10),
        _speed("mnist-mlp", "pythae", cpu=1.3, cuda=10),
    ]
    peak = Target(
        "peak memory, mnist-mlp, vaezoo / bare", "mnist-mlp", "vaezoo", "bare", memory, "<=", {"cpu": 1.3, "cuda": 1.2}
    )
    both = {"cpu": 3.0, "cuda": 3.0}
    start = [
        Target("`vaezoo list` / `import hydra`", START, "list", "import hydra", SECONDS, "<=", both),
        Target("`train.py --help` / `import hydra`", START, "help", "import hydra", SECONDS, "<=", both),
        Target(
            "first step of train.py - torch and lightning imported, s",
            START,
            "first step",
            "imported",
            SECONDS,
            "<=",
            {"cpu": 2.0, "cuda": 2.0},
            differences,
        ),
    ]
    return [target for target in (*speed, peak, *start) if device in target.bounds]


def _speed(load: str, under: str, **bounds: float) -> Target:
    return Target(f"images/s, {load}, vaezoo / {under}", load, "vaezoo", under, SPEED, ">=", bounds)


def judge(measurements: Sequence[Measurement], device: str, *, quick: bool = False) -> list[Verdict]:
    """Every target of a device; the median decides. Smoke runs decide nothing."""
    return [_verdict(target, measurements, device, quick) for target in targets(device)]


def _verdict(target: Target, measurements: Sequence[Measurement], device: str, quick: bool) -> Verdict:
    bound = target.bounds[device]
    found = target.combine(measurements, target.load, target.over, target.under, target.quantity)
    if found is None or quick:
        outcome = "not measured"
    else:
        reached = found.median >= bound if target.sign == ">=" else found.median <= bound
        outcome = "reached" if reached else "missed"
    return Verdict(target.what, f"{target.sign} {bound:g}", found, outcome)
