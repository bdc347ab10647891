"""Records of finished runs: settings and metrics, read from run folders and validated."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from vaezoo.comparison.architecture import layers
from vaezoo.config.errors import RunError, VaezooError, printable
from vaezoo.config.reading import is_number, read_json
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models.loading import Run
from vaezoo.runs.folder import ADOPTED, COMPLETE
from vaezoo.runs.paths import runs_in
from vaezoo.runs.trust import OWN

SCHEMA = 1
NEEDED = ("model", "likelihood", "objective", "data", "seed", "parameters", "steps", "cost", "environment")
"""Keys that ``summary.json`` must have."""
LONGEST = 2000
"""Longer strings in a record are truncated to this many characters."""
EACH = ""
"""In a schema: applies to every key of the mapping."""
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
    "code_shape": [int],
    "manifold_dim": int,
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
"""Schemas of the fields that a comparison reads; ``int`` stands for any finite number."""
FROM_TEST = ("elbo", "elbo_given_label", "recon", "kl", "bits_per_dim", "mse", "psnr", "active_units")
FROM_COST = ("images_per_second", "seconds", "peak_memory_bytes")
VECTORS = {
    name: f"{name}_of_images"
    for name in ("elbo", "elbo_prior", "psnr", "iw_bound", "elbo_given_label", "iw_bound_given_label")
}
"""Metrics with per-image values, and their keys in evaluation.json."""


@dataclass(frozen=True)
class Number:
    """One metric of one run: its value, or None with a reason, and its sample sizes.

    ``error`` is the standard error over images or draws; None for counts, which have no sampling error.
    """

    value: float | None
    reason: str = ""
    sizes: tuple[tuple[str, Any], ...] = ()
    error: float | None = None


@dataclass(frozen=True)
class Refusal:
    """A folder left out of the comparison, with the reason."""

    path: Path
    reason: str


@dataclass
class RunRecord:
    """One finished run. ``note`` describes what is missing, if anything; ``layers`` see ``architecture.layers``."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    evaluation: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    layers: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """The seed of training."""
        return int(self.summary["seed"])

    @property
    def is_adopted(self) -> bool:
        """Whether the model was trained elsewhere."""
        return self.summary.get("status") == ADOPTED

    @property
    def sessions(self) -> list[tuple[float, float]]:
        """Start and end of each training session, in Unix seconds; empty if not recorded."""
        sessions = self.summary["cost"].get("sessions")
        pairs = [pair for pair in sessions if isinstance(pair, list)] if isinstance(sessions, list) else []
        return [(float(pair[0]), float(pair[1])) for pair in pairs if len(pair) == 2 and all(map(is_number, pair))]

    def shared_with(self, other: "RunRecord") -> bool:
        """Whether both runs trained on the same machine at the same time."""
        machines = [record.summary["environment"].get("machine") for record in (self, other)]
        if machines[0] is None or machines[0] != machines[1]:
            return False
        return any(a[0] < b[1] and b[0] < a[1] for a in self.sessions for b in other.sessions)

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """All metrics by name: from evaluation.json, else from summary.json."""
        return _recorded(self.summary) | _evaluated(self.evaluation)

    def value(self, name: str) -> float | None:
        """A metric's value, or None if missing."""
        number = self.numbers.get(name)
        return None if number is None else number.value

    def of_images(self, name: str) -> np.ndarray | None:
        """Per-image values of a metric, (N,); None if not stored, fewer than two, or not all finite."""
        kept = self.evaluation.get("vectors", {}).get(VECTORS.get(name, ""))
        values = np.array(kept if kept is not None else [], dtype=float)
        return values if len(values) > 1 and np.isfinite(values).all() else None

    def by_depth(self) -> np.ndarray:
        """Rate and distortion of the first level of a code, the first two, ...: (L, 2) in nats, or (0, 2)."""
        kept = self.evaluation.get("vectors", {})
        pair = [np.array(kept.get(f"{name}_at_depth", []), dtype=float) for name in ("rate", "recon")]
        sound = len(pair[0]) == len(pair[1]) and all(np.isfinite(values).all() for values in pair)
        return np.stack(pair, 1) if sound else np.empty((0, 2))


def gather(paths: Iterable[str | Path], packages: Sequence[str] = OWN) -> tuple[list[RunRecord], list[Refusal]]:
    """Read the runs in ``paths``; also returns the folders that cannot be compared.

    A folder without config.yaml is replaced by the run folders in it. ``packages`` may be imported to create models.
    """
    records, refused, seen = list[RunRecord](), list[Refusal](), set[Path]()
    for path in chain.from_iterable(map(runs_in, paths)):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            records.append(read(path, packages))
        except VaezooError as error:
            refused.append(Refusal(path, str(error)))
    return records, refused


def read(path: Path, packages: Sequence[str] = OWN) -> RunRecord:
    """Read a run folder; RunError if it is not a finished run, is invalid, or its checkpoint cannot be loaded."""
    run = Run(path)
    summary = run.summary
    status = summary.get("status", "unfinished")
    if status not in COMPLETE:
        raise RunError(f"{path} is {status}: resume it with python train.py resume={path}, or leave it out")
    missing = [name for name in NEEDED if name not in summary]
    if missing:
        raise RunError(f"{path}/summary.json lacks {', '.join(missing)}: it was written by another version of vaezoo")
    summary = {"changed": [], "skipped_steps": 0, "code_shape": [], "manifold_dim": 0} | summary
    if wrong := _wrong(summary, SUMMARY):
        raise RunError(f"{path}/summary.json is not as vaezoo writes it: {wrong}")
    config: Any = OmegaConf.to_container(run.config, resolve=True)
    if wrong := _wrong(config, CONFIG):
        raise RunError(f"{path}/config.yaml is not as vaezoo writes it: {wrong}")
    found, index_prior = _of_model(run, packages)
    evaluation, note = _read_evaluation(path, index_prior)
    return RunRecord(path, config, sanitised(summary), sanitised(evaluation), note, found)


def _of_model(run: Run, packages: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """The layers of the checkpoint's model, and the SHA-256 of the prior that was fitted to its indices, if any.

    RunError if it cannot be loaded.
    """
    try:
        model = run.model(packages=packages)
        return layers(model), run.index_prior_of(model)
    except VaezooError:
        raise
    except Exception as error:  # torch and Python raise many kinds for weights and arguments of another version
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{run.path} has a checkpoint that this version of vaezoo cannot load: {reason}") from error


def _read_evaluation(path: Path, index_prior: str | None) -> tuple[dict[str, Any], str]:
    """The content of ``evaluation.json``, or an empty dict, and what is wrong with it.

    ``index_prior`` is the SHA-256 of the weights of the run's prior over indices, if it has one.
    """
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
    if content.get("index_prior") != index_prior:
        return content, f"evaluation.json is without the prior that was fitted since; run vaezoo evaluate {path}"
    return content, ""


def sanitised(node: Any) -> Any:
    """Copy of a record with strings made printable and truncated to ``LONGEST`` characters."""
    if isinstance(node, dict):
        return {sanitised(name): sanitised(child) for name, child in node.items()}
    if isinstance(node, list):
        return [sanitised(child) for child in node]
    return printable(node[:LONGEST]) if isinstance(node, str) else node


def _wrong(found: Any, wanted: Any, key: str = "") -> str:
    """Description of the first mismatch between a record and a schema, or an empty string; extra keys are allowed."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return f"{key or 'it'} is not a mapping of names to values"
        kinds = dict.fromkeys(found, wanted[EACH]) if EACH in wanted else wanted
        inside = (_wrong(found.get(name), kinds[name], f"{key}.{name}".lstrip(".")) for name in kinds)
        return next((mismatch for mismatch in inside if mismatch), "")
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
    metrics = evaluation.get("metrics", {})
    return {name: _number(name, stored) for name, stored in metrics.items() if isinstance(stored, dict)}


def _number(name: str, stored: dict[str, Any]) -> Number:
    about = {key: value for key, value in stored.items() if key not in ("value", "se", "reason", "note")}
    sizes = tuple((key, value) for key, value in about.items() if isinstance(value, int | str))
    value = finite(stored.get("value"))
    default = "" if value is not None else "not finite" if stored.get("value") is not None else "not defined"
    error = finite(stored.get("se")) or _error(name, value, finite(stored.get("n")))
    return Number(value, str(stored.get("reason") or default), sizes, error)


def _error(name: str, value: float | None, n: float | None) -> float | None:
    """Rough standard error of a metric over ``n`` images: binomial for shares, |value| / √n otherwise."""
    unit = CATALOGUE[name].unit if name in CATALOGUE else ""
    if value is None or n is None or n < 1 or unit == "dimensions":
        return None
    if unit == "share" and 0 <= value <= 1:
        return math.sqrt(value * (1 - value) / n)
    return abs(value) / math.sqrt(n)


def finite(value: Any) -> float | None:
    """The value as a float if it is a finite number, else None."""
    return float(value) if is_number(value) else None
