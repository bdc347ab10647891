"""Reading and writing a run folder."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaezoo.config import reading
from vaezoo.config.errors import RunError
from vaezoo.runs import renamed, trust
from vaezoo.runs.files import TEMPORARY_SUFFIX, replacing, write_text

RECORD = ("config.yaml", "checkpoints", "metrics.csv", "summary.json")
"""Files that make a folder a run; a new run needs a folder without them."""


ADOPTED = "adopted"
"""Status of a run whose model was trained elsewhere."""

COMPLETE = ("finished", ADOPTED)
"""Status of runs that are not going to change."""


class RunFolder:
    """Read access to a run folder.

    The constructor raises RunError if the folder is not a run; methods raise it for missing or unreadable parts.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path / "config.yaml"):  # False for a name that no file system has
            raise RunError(f"{self.path} is not a run folder: it has no config.yaml; give the run_dir of a trained run")

    @property
    def config(self) -> DictConfig:
        """The resolved config of the run, with plain values only. Check it by ``trust`` before creating objects."""
        plain = OmegaConf.to_container(reading.read_config(self.path / "config.yaml"))
        return OmegaConf.create(renamed.current(plain))

    def refuse_untrusted(self, packages: Sequence[str] = trust.OWN, overrides: Sequence[str] = ()) -> None:
        """RunError if resuming the run would create or write what ``trust`` does not allow.

        ``overrides`` are settings of the command line, which are trusted.
        """
        plain: Any = OmegaConf.to_container(self.config)
        for name in ("model", "data", "trainer"):
            if not (isinstance(plain.get(name), dict) and "_target_" in plain[name]):
                raise RunError(f"{self.path}/config.yaml has no {name}; put the run's own config.yaml back")
        trust.check_config(plain, self.path, packages=packages, overrides=overrides)
        trust.refuse_links(self.path)
        if any(not row.get("step", 0.5).is_integer() for row in self.metrics):
            raise RunError(f"{self.path}/metrics.csv has a row without a step; remove the row")

    @property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``; only the status ``unfinished`` if there is none; RunError if invalid."""
        path = self.path / "summary.json"
        if not path.is_file():
            return {"status": "unfinished"}
        summary = reading.read_json(path)
        if not isinstance(summary.get("status"), str):
            raise RunError(f"{path} cannot be read: it contains no status")
        if wrong := _wrong_part(summary):
            raise RunError(f"{path} is not as vaezoo writes it: {wrong}; put the run's own back, or train it again")
        return summary

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The content of ``evaluation.json``; None if there is none, RunError if it is invalid."""
        path = self.path / "evaluation.json"
        try:
            return reading.read_json(path) if path.is_file() else None
        except RunError as error:
            raise RunError(f"{error}; run vaezoo evaluate {self.path} again") from error

    @property
    def mixture(self) -> dict[str, Any] | None:
        """The content of ``mixture.json``: the mixture that the last evaluation fitted to training codes, with the name
        and the step of the checkpoint that it belongs to; None if there is none, RunError if it is invalid."""
        path = self.path / "mixture.json"
        try:
            return reading.read_json(path) if path.is_file() else None
        except RunError as error:
            raise RunError(f"{error}; run vaezoo evaluate {self.path} again") from error

    @property
    def index_prior(self) -> dict[str, Any] | None:
        """The content of ``prior/prior.json``: what describes the prior over indices that ``vaezoo prior`` fitted, with
        the name and the step of the checkpoint that it belongs to, and the name and the SHA-256 of the file of its
        weights beside it; None if there is none, RunError if it is invalid."""
        path = self.path / "prior" / "prior.json"
        try:
            return reading.read_json(path) if path.is_file() else None
        except RunError as error:
            raise RunError(f"{error}; run vaezoo prior {self.path} again") from error

    @property
    def metrics(self) -> list[dict[str, float]]:
        """Rows of ``metrics.csv`` in order; each has ``step`` and the metrics that were logged then."""
        path = self.path / "metrics.csv"
        return reading.read_rows(path) if path.is_file() else []

    def checkpoint(self, name: str | None = None) -> Path:
        """Path of ``checkpoints/{name}.ckpt``; None takes the best or else the last. RunError if missing."""
        saved = [path for path in self.checkpoints() if path.stem == (name or path.stem)]
        if not saved:
            raise RunError(
                f"{self.path} has no {name or 'best or last'} checkpoint; choose another run or train it again"
            )
        return saved[0]

    def checkpoints(self) -> list[Path]:
        """Paths of the existing checkpoints, ``best`` first."""
        paths = [self.path / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")]
        return [path for path in paths if path.is_file()]


def _wrong_part(summary: Mapping[str, Any]) -> str:
    """A clause on the first malformed part of a summary; empty if there is none."""
    for name in ("data", "environment", "val", "test", "cost"):
        part = summary.get(name, {})
        if not isinstance(part, dict):
            return f"{name} is not a mapping of names to values"
        texts = name in ("data", "environment")
        if others := [key for key, value in part.items() if not (texts or value is None or _is_numbers(value))]:
            return f"{name}.{others[0]} is not a number"
    return ""


def _is_numbers(value: Any) -> bool:
    """Whether it is a finite number or a (nested) list of finite numbers."""
    return all(map(_is_numbers, value)) if isinstance(value, list) else reading.is_number(value)


def refuse_if_taken(path: Path) -> None:
    """RunError if the folder already contains a run, or files and folders in each other's place."""
    taken = [name for name in RECORD if (path / name).exists()]
    if taken and not _never_trained(path):
        raise RunError(
            f"run_dir={path} already contains a run ({taken[0]}); choose another, or resume it with resume={path}"
        )
    trust.refuse_misplaced(path)


def _never_trained(path: Path) -> bool:
    """Whether a run failed before its first step, so that nothing in its folder could be lost."""
    try:
        summary = RunFolder(path).summary
    except RunError:
        return False
    return summary["status"] == "failed" and summary.get("steps") == 0 and not (path / "checkpoints").exists()


def clear(path: Path) -> None:
    """Remove the record of a run that never saved a checkpoint, and nothing else."""
    for pattern in (
        "config.yaml",
        "metrics.csv",
        "summary.json",
        "events.out.tfevents.*",
        "trackers.json",
        "checkpoints/*",
    ):
        for file in path.glob(pattern):
            file.unlink()
    if (path / "checkpoints").is_dir():
        (path / "checkpoints").rmdir()


def tidy(path: Path) -> None:
    """Remove the temporary files of a killed run."""
    for pattern in ("*", "checkpoints/*", "figures/*/*", "prior/*"):
        for file in path.glob(f"{pattern}{TEMPORARY_SUFFIX}"):
            file.unlink(missing_ok=True)


def start(path: Path, cfg: DictConfig) -> None:
    """Create the run folder, write the config and delete the previous summary, when a run starts or resumes.

    RunError if the folder cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        (path / "summary.json").unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to run_dir={path}: {error.strerror}; choose another") from error


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write summary.json."""
    write_text(path / "summary.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")


def write_evaluation(path: Path, evaluation: dict[str, Any], mixture: Mapping[str, Any] | None = None) -> None:
    """Write evaluation.json and, if a mixture was fitted to the codes, mixture.json; else remove that of before."""
    write_text(path / "evaluation.json", json.dumps(evaluation, indent=1, allow_nan=False) + "\n")
    if mixture is None:
        (path / "mixture.json").unlink(missing_ok=True)
    else:
        write_mixture(path, mixture)


def write_mixture(path: Path, mixture: Mapping[str, Any]) -> None:
    """Write mixture.json."""
    write_text(path / "mixture.json", json.dumps(mixture, allow_nan=False) + "\n")


def write_index_prior(path: Path, weights: bytes, card: Mapping[str, Any]) -> dict[str, Any]:
    """Write a prior over indices: its weights, then prior.json, then remove the weights of the one before.

    If this ends anywhere in between, the prior of before is still whole. Returns the content of prior.json.
    """
    digest, folder = hashlib.sha256(weights).hexdigest(), path / "prior"
    folder.mkdir(exist_ok=True)
    card = {**card, "file": f"{digest[:16]}.safetensors", "sha256": digest}
    with replacing(folder / card["file"]) as new:
        new.write_bytes(weights)
    write_text(folder / "prior.json", json.dumps(card, indent=1, allow_nan=False) + "\n")
    for other in folder.glob("*.safetensors"):
        if other.name != card["file"]:
            other.unlink()
    return card
