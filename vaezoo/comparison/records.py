"""Finished runs as records of settings and numbers, and why others are left out. It knows no statistics."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from vaezoo.comparison.architecture import layers
from vaezoo.config.errors import RunError, VaezooError, printable
from vaezoo.config.reading import is_number, read_json
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models.loading import Run
from vaezoo.runs.trust import OWN

SCHEMA = 1
NEEDED = ("model", "likelihood", "objective", "data", "seed", "parameters", "steps", "cost", "environment")
"""What ``summary.json`` must say for a run to be compared."""
LONGEST = 2000
"""Letters of a text in a record that are shown."""
EACH = ""
"""Stands for every name that a record has there."""
SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("model", "likelihood", "objective"), str),
    **dict.fromkeys(("seed", "parameters", "steps"), int),
    "data": {
        "name": str,
        "binarize": str,
        "fit": str | None,
        "range": str | list | None,
        "image_shape": [int, int, int],
    },
    "cost": {},
    "environment": {},
    "changed": [{"key": str, "step": int}],
    "skipped_steps": int,
}
CONFIG: dict[str, Any] = {
    "model": {"_target_": str, "likelihood_options": dict | None},
    "data": {},
    "trainer": {},
}
EVALUATION: dict[str, Any] = {
    "metrics": {EACH: {}},
    "vectors": {EACH: [int | float | None]},
    "settings": {},
    "references": {EACH: {"metrics": {EACH: {}}}},
}
"""Of which kinds those parts of the records are that a comparison looks into; ``int`` stands for a finite number."""
FROM_TEST = ("elbo", "recon", "kl", "bits_per_dim", "mse", "psnr", "active_units")
FROM_COST = ("images_per_second", "seconds", "peak_memory_bytes")
VECTORS = {"elbo": "elbo_of_images", "psnr": "psnr_of_images", "iw_bound": "iw_bound_of_images"}
"""Metrics that are known image by image."""


@dataclass(frozen=True)
class Number:
    """A metric of one run: None with a reason where it is not defined, and over how much it was estimated.

    ``error`` is its standard error over images or draws, None for what is counted and not estimated.
    """

    value: float | None
    reason: str = ""
    sizes: tuple[tuple[str, Any], ...] = ()
    error: float | None = None


@dataclass(frozen=True)
class Refusal:
    """A folder that is left out, and why."""

    path: Path
    reason: str


@dataclass
class Entry:
    """One finished run. ``note`` says what its record lacks, if anything; ``layers`` are its networks (see there)."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    layers: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        return int(self.summary["seed"])

    @property
    def sessions(self) -> list[tuple[float, float]]:
        """The times between which it trained, in Unix seconds; none in records that do not say."""
        said = self.summary["cost"].get("sessions")
        pairs = [pair for pair in said if isinstance(pair, list)] if isinstance(said, list) else []
        return [(float(pair[0]), float(pair[1])) for pair in pairs if len(pair) == 2 and all(map(is_number, pair))]

    def shared_with(self, other: "Entry") -> bool:
        """Whether both trained on one machine at the same time."""
        machines = [entry.summary["environment"].get("machine") for entry in (self, other)]
        if machines[0] is None or machines[0] != machines[1]:
            return False
        return any(a[0] < b[1] and b[0] < a[1] for a in self.sessions for b in other.sessions)

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """Every metric: the evaluation's, and where it does not speak of one, what training itself recorded."""
        return _recorded(self.summary) | _evaluated(self.evaluation)

    def value(self, name: str) -> float | None:
        """A metric's value, None where there is none."""
        number = self.numbers.get(name)
        return None if number is None else number.value

    def of_images(self, name: str) -> np.ndarray | None:
        """A metric image by image, (N,), where the evaluation kept it and every one is finite."""
        kept = self.evaluation.get("vectors", {}).get(VECTORS.get(name, ""))
        values = np.array(kept if kept is not None else [], dtype=float)
        return values if len(values) > 1 and np.isfinite(values).all() else None


def gather(paths: Iterable[str | Path], packages: Sequence[str] = OWN) -> tuple[list[Entry], list[Refusal]]:
    """Runs that can be compared, and folders that cannot; a folder without a config stands for the runs in it."""
    entries, refused, seen = list[Entry](), list[Refusal](), set[Path]()
    for path in _expand(paths):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            entries.append(read(path, packages))
        except VaezooError as error:
            refused.append(Refusal(path, str(error)))
    return entries, refused


def read(path: Path, packages: Sequence[str] = OWN) -> Entry:
    """A run's record; RunError if it is none, is not finished, or its model cannot be made from its checkpoint."""
    run = Run(path)
    summary = run.summary
    status = summary.get("status", "unfinished")
    if status != "finished":
        raise RunError(f"{path} is {status}: resume it with python train.py resume={path}, or leave it out")
    missing = [name for name in NEEDED if name not in summary]
    if missing:
        raise RunError(f"{path}/summary.json lacks {', '.join(missing)}: it was written by another version of vaezoo")
    summary = {"changed": [], "skipped_steps": 0} | summary
    if wrong := _wrong(summary, SUMMARY):
        raise RunError(f"{path}/summary.json is not as vaezoo writes it: {wrong}")
    config: Any = OmegaConf.to_container(run.config, resolve=True)
    if wrong := _wrong(config, CONFIG):
        raise RunError(f"{path}/config.yaml is not as vaezoo writes it: {wrong}")
    found = _layers(run, packages)
    evaluation, note = _read_evaluation(path)
    return Entry(path, config, readable(summary), readable(evaluation), note, found)


def _expand(paths: Iterable[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        inside = sorted(path.iterdir()) if os.path.isdir(path) and not (path / "config.yaml").exists() else []
        runs = [child for child in inside if os.path.exists(child / "config.yaml")]
        yield from runs or [path]


def _layers(run: Run, packages: Sequence[str]) -> tuple[str, ...]:
    """The layers of the checkpoint's model; RunError unless it makes one."""
    try:
        return layers(run.model(packages=packages))
    except VaezooError:
        raise
    except Exception as error:  # torch and Python raise many kinds for weights and arguments of another version
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{run.path} has a checkpoint that this version of vaezoo cannot load: {reason}") from error


def _read_evaluation(path: Path) -> tuple[dict[str, Any], str]:
    """What ``evaluation.json`` holds, or nothing and why."""
    file = path / "evaluation.json"
    if not file.is_file():
        return {}, f"no evaluation.json, so only the test results from training are used; run vaezoo evaluate {path}"
    try:
        content = read_json(file)
    except RunError:
        return {}, f"evaluation.json cannot be read; rewrite it with vaezoo evaluate {path}"
    if content.get("schema") != SCHEMA:
        return {}, f"evaluation.json is of another version; rewrite it with vaezoo evaluate {path}"
    if wrong := _wrong({name: content.get(name, {}) for name in EVALUATION}, EVALUATION):
        return {}, f"evaluation.json is damaged ({wrong}); rewrite it with vaezoo evaluate {path}"
    return content, ""


def readable(node: Any) -> Any:
    """The same record with texts that can be shown: without control characters, and none longer than a page."""
    if isinstance(node, dict):
        return {readable(name): readable(child) for name, child in node.items()}
    if isinstance(node, list):
        return [readable(child) for child in node]
    return printable(node[:LONGEST]) if isinstance(node, str) else node


def _wrong(found: Any, wanted: Any, key: str = "") -> str:
    """What is not as it should be in a record, or nothing; names that ``wanted`` does not have are free."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return f"{key or 'it'} is not a mapping of names to values"
        kinds = dict.fromkeys(found, wanted[EACH]) if EACH in wanted else wanted
        inside = (_wrong(found.get(name), kinds[name], f"{key}.{name}".lstrip(".")) for name in kinds)
        return next((said for said in inside if said), "")
    if isinstance(wanted, list):
        listed = isinstance(found, list) and (len(wanted) < 2 or len(found) == len(wanted))
        return "" if listed and not any(_wrong(each, wanted[0]) for each in found) else f"{key} is not a valid list"
    sound = is_number(found) if wanted is int else isinstance(found, wanted)
    return "" if sound else f"{key} is {str(found)[:40]!r}"


def _recorded(summary: dict[str, Any]) -> dict[str, Number]:
    test = summary["test"] if isinstance(summary.get("test"), dict) else {}
    cost = summary["cost"]
    sizes = (("n", summary["data"].get("test")),)
    found = {name: _number(name, {"value": test[name], **dict(sizes)}) for name in FROM_TEST if name in test}
    found |= {name: Number(finite(cost[name])) for name in FROM_COST if name in cost}
    return found | {"parameters": Number(float(summary["parameters"]))}


def _evaluated(evaluation: dict[str, Any]) -> dict[str, Number]:
    return {name: _number(name, said) for name, said in evaluation.get("metrics", {}).items() if isinstance(said, dict)}


def _number(name: str, said: dict[str, Any]) -> Number:
    about = {key: value for key, value in said.items() if key not in ("value", "se", "reason", "note")}
    sizes = tuple((key, value) for key, value in about.items() if isinstance(value, int | str))
    value = finite(said.get("value"))
    silent = "" if value is not None else "not finite" if said.get("value") is not None else "not defined"
    error = finite(said.get("se")) or _error(name, value, finite(said.get("n")))
    return Number(value, str(said.get("reason") or silent), sizes, error)


def _error(name: str, value: float | None, n: float | None) -> float | None:
    """A guess at the standard error of a number from ``n`` images: a share's is the binomial, of others 1 / √n."""
    unit = CATALOGUE[name].unit if name in CATALOGUE else ""
    if value is None or n is None or n < 1 or unit == "dimensions":
        return None
    if unit == "share" and 0 <= value <= 1:
        return math.sqrt(value * (1 - value) / n)
    return abs(value) / math.sqrt(n)


def finite(value: Any) -> float | None:
    """A number that can be compared, or None."""
    return float(value) if is_number(value) else None
