"""A benchmark's folder: its plan, its locks and the state of its runs."""

import csv
import fcntl
import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from vaezoo import runs
from vaezoo.benchmark.grid import Cell
from vaezoo.config.errors import RunError
from vaezoo.config.reading import flat
from vaezoo.runs import renamed
from vaezoo.runs.checkpoints import RESUMABLE
from vaezoo.runs.files import write_text
from vaezoo.runs.resuming import take_chosen

PLAN, LOG, JOBS = "benchmark.json", "benchmark.log", "jobs"
OWNER, RUNS = "benchmark.lock", "runs.lock"
State = Literal["finished", "half done", "new"]


class Folder:
    """The folder ``out``. Run NAME is in ``out/NAME``, with the output of its processes in ``benchmark.log``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run_dir(self, name: str) -> Path:
        """The folder of a run."""
        return self.path / name

    def log(self, name: str) -> Path:
        """The file with the output of a run's processes."""
        return self.path / name / LOG

    def plan(self) -> dict[str, Any]:
        """The plan of earlier commands; RunError if it is unreadable or the folder contains other files."""
        path = self.path / PLAN
        try:
            if path.is_file():
                plan: dict[str, Any] = renamed.current(json.loads(path.read_text()))
                return plan
            names = {each.name for each in self.path.iterdir()} if self.path.exists() else set()
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}); choose another out=") from error
        if names - {OWNER, RUNS, PLAN + ".new"}:
            raise RunError(f"out={self.path} contains other files, not a benchmark; choose another folder")
        return {"runs": {}, "evaluate": [], "evaluated": {}}

    def refuse_another(self, cells: Sequence[Cell]) -> None:
        """Raise RunError unless ``cells`` include all planned runs with the same settings."""
        planned, wanted = self.plan()["runs"], {cell.name: cell.config for cell in cells}
        for name, before in planned.items():
            if name not in wanted:
                raise RunError(
                    f"out={self.path} contains another benchmark, which has the run {name}; rerun its command, with"
                    " additions if needed, or choose another folder"
                )
            if difference := first_difference(before, wanted[name]):
                raise RunError(f"out={self.path} contains another benchmark: {difference}; choose another folder")

    def write_plan(self, cells: Sequence[Cell], evaluate: Sequence[str]) -> None:
        """Write the plan; evaluations with settings other than ``evaluate`` are discarded from it."""
        before = self.plan()
        evaluated = before["evaluated"] if before["evaluate"] == list(evaluate) else {}
        self._write({"runs": {cell.name: cell.config for cell in cells}, "evaluate": evaluate, "evaluated": evaluated})

    def state(self, cell: Cell) -> State:
        """State of a run; RunError if its folder contains a run of other origin or with other settings."""
        path = self.run_dir(cell.name)
        if not any((path / name).exists() for name in runs.RECORD):
            return "new"
        if not self.log(cell.name).is_file():
            raise RunError(f"{path} contains a run that is not this benchmark's; move it away, or choose another out=")
        found = _config(path)
        wanted = {**cell.config, "data": dict(cell.config["data"])}
        take_chosen(found or {}, wanted)
        if found is not None and (difference := first_difference(found, wanted)):
            raise RunError(f"{path} was trained with other settings: {difference}; move it away to train it again")
        summary = _read_json(path / "summary.json")
        if found is not None and summary.get("status") == "finished":
            return "finished"
        # The directory of a zip archive is at its end, so a checkpoint truncated by a power cut has none.
        saved = [path / "checkpoints" / f"{name}.ckpt" for name in RESUMABLE]
        return "half done" if found is not None and any(map(zipfile.is_zipfile, saved)) else "new"

    def clear(self, cell: Cell) -> None:
        """Delete the record of a run without checkpoint, and nothing else."""
        runs.clear(self.run_dir(cell.name))

    def is_evaluated(self, name: str) -> bool:
        """Whether the run's ``evaluation.json`` was written by this benchmark, by its hash in the plan."""
        digest = _digest(self.run_dir(name) / "evaluation.json")
        return digest is not None and self.plan()["evaluated"].get(name) == digest

    def evaluated_at(self, name: str) -> int | None:
        """When the run's ``evaluation.json`` was written, in ns; None if there is none."""
        path = self.run_dir(name) / "evaluation.json"
        return path.stat().st_mtime_ns if path.is_file() else None

    def mark_evaluated(self, name: str) -> None:
        """Record the hash of the run's ``evaluation.json`` in the plan."""
        plan = self.plan()
        plan["evaluated"][name] = _digest(self.run_dir(name) / "evaluation.json")
        self._write(plan)

    def steps(self, name: str) -> int:
        """Number of optimiser steps of a finished run."""
        return int(_read_json(self.run_dir(name) / "summary.json").get("steps", 0))

    @contextmanager
    def locked(self, patience: float = 60.0) -> Iterator[int]:
        """Lock the folder; yields a file descriptor that the runs must inherit.

        There are two locks, both released by the system when their holders exit: the owner's, and one that is held as
        long as any process that inherited it. The runs of a killed benchmark are waited for, up to ``patience``
        seconds. RunError if another benchmark holds the folder, or those runs do not exit in time.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            owner, held = (self.path / OWNER).open("a+"), (self.path / RUNS).open("a")
        except OSError as error:
            raise RunError(f"cannot write to out={self.path}: {error.strerror}; choose another folder") from error
        with owner, held:
            if not _lock(owner.fileno()):
                owner.seek(0)
                raise RunError(f"out={self.path} is in use by another benchmark (process {owner.read() or 'unknown'})")
            owner.truncate(0)
            owner.write(str(os.getpid()))
            owner.flush()
            until = time.monotonic() + patience
            while not _lock(held.fileno()):
                if time.monotonic() > until:
                    raise RunError(f"out={self.path}: runs of a benchmark that was killed are still running; stop them")
                time.sleep(0.2)
            yield held.fileno()

    def _write(self, plan: dict[str, Any]) -> None:
        write_text(self.path / PLAN, json.dumps(plan, indent=1) + "\n")


def first_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """A sentence on the first setting that differs, ignoring the paths of runs and images; None if none does."""
    first, second = (
        {key: value for key, value in flat(portable(each), whole=True) if key != "data.root"} for each in (there, here)
    )
    for key in sorted(first.keys() | second.keys()):
        if first.get(key) != second.get(key):
            return f"{key} is {first.get(key)!r} in the folder and {second.get(key)!r} in this command"
    return None


def portable(config: Mapping[str, Any]) -> Any:
    """Copy of a config with the path of its run replaced by RUN_DIR."""
    run_dir = str(config["run_dir"])
    kept = {key: value for key, value in config.items() if key not in ("run_dir", "resume")}

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(value) for key, value in node.items()}
        return node.replace(run_dir, "RUN_DIR") if isinstance(node, str) else node

    return replaced(kept)


def fraction(run_dir: Path, config: Mapping[str, Any]) -> float:
    """Completed fraction of a run's training, in [0, 1], from the last line of ``metrics.csv``."""
    try:
        with (run_dir / "metrics.csv").open("rb") as file:
            head = file.readline().decode()
            file.seek(max(len(head), file.seek(0, os.SEEK_END) - 4096))
            last = file.read().decode(errors="ignore").splitlines()[-1]
    except (OSError, IndexError):
        return 0.0
    row = dict(zip(*csv.reader([head, last]), strict=False))
    trainer = config["trainer"]
    limits = {"step": trainer["max_steps"], "epoch": trainer["max_epochs"]}
    fractions = [_number(row.get(name)) / limit for name, limit in limits.items() if limit is not None and limit > 0]
    return min(1.0, max(fractions, default=0.0))


def _config(run_dir: Path) -> dict[str, Any] | None:
    """The config of a run, or None if it is missing or damaged, as after a power cut."""
    from omegaconf import OmegaConf

    try:
        found: Any = OmegaConf.to_container(runs.RunFolder(run_dir).config)
    except RunError:
        return None
    return found if {"run_dir", "data", "trainer"} <= set(found) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _number(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
