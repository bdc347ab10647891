"""Sweeps: many runs of one command. A failed run does not stop the others; failures are reported at the end."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.runs import paths

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

ERROR = "error.txt"
"""File in the folder of a failed run, with one sentence on the error."""


def is_sweep(words: Sequence[str]) -> bool:
    """Whether a command line asks for a multirun."""
    return bool({"-m", "--multirun"} & set(words))


def with_folder(words: Sequence[str]) -> tuple[list[str], Path]:
    """Replace ``run_dir=`` by Hydra's sweep folder in the arguments; returns them and the folder.

    ConfigError if the folder contains interpolations, is a file, or would not contain the runs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    named = [word for word in words if word.lstrip("+").startswith(("run_dir=", "hydra.sweep.dir="))]
    value = named[-1].partition("=")[2] if named else f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_sweep"
    if "${" in value:
        raise ConfigError(f"the folder of a sweep must be a path without ${{...}}, got {value}; set run_dir=PATH")
    for word in words:
        name, _, subdir = word.lstrip("+").partition("=")
        subdir = subdir.strip("'\"")
        if name == "hydra.sweep.subdir" and (subdir.startswith(("/", "~")) or ".." in subdir.split("/")):
            raise ConfigError(f"hydra.sweep.subdir must be a path below the sweep's folder run_dir=, got {subdir}")
    rest = [word for word in words if word not in named]
    word = f"hydra.sweep.dir={value}"
    folder = paths.folder(OverridesParser.create().parse_override(word).value(), "run_dir")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"run_dir must be a folder for the runs of a sweep, got {folder}, which is a file")
    return [*rest, word], folder


def errors(folder: Path) -> dict[Path, int]:
    """The error files of failed runs in the folder of a sweep, with their modification times in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob(ERROR)}


def refuse_ranks_that_sweep() -> None:
    """Raise ConfigError if this process is one of several ranks, each of which would run the whole sweep."""
    ranks = max(int(os.environ.get(name) or 1) for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    if ranks > 1:
        raise ConfigError(
            f"-m starts the runs of a sweep from one process, and this is one of {ranks}; start it without torchrun"
            " and srun, with sweep=submitit_slurm for runs on several devices"
        )


def refuse_failed(folder: Path, before: Mapping[Path, int]) -> None:
    """Raise ConfigError with the failed runs of a sweep, if any; ``before`` are the error files of earlier sweeps."""
    new = {path.parent.relative_to(folder): path for path, at in errors(folder).items() if before.get(path) != at}
    by_error: dict[str, list[str]] = {}
    for name in sorted(new, key=lambda name: [_job_number(part) for part in name.parts]):
        by_error.setdefault(new[name].read_text().strip(), []).append(str(name))
    if by_error:
        reasons = "; ".join(f"{', '.join(names)}: {sentence}" for sentence, names in by_error.items())
        raise ConfigError(f"{len(new)} {'runs' if len(new) > 1 else 'run'} of the sweep in {folder} failed: {reasons}")


def run_job(train: Callable[..., dict[str, Any]], cfg: DictConfig, run_dir: Path) -> float | None:
    """Train one run of a sweep; returns the value of ``optimized_metric``, None if it is not set or the run failed.

    An error is printed and written to ``error.txt``, but not raised: some launchers would stop the other runs.
    """
    (run_dir / ERROR).unlink(missing_ok=True)
    try:
        with _environment_of_its_own():
            return optimized(train(cfg, run_dir, sweeping=True), cfg.optimized_metric)
    except Exception as error:
        sentence = hydra_config.explain(error)
        if sentence is None:
            traceback.print_exc()
            sentence = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if "ntasks-per-node" in sentence:  # Lightning's message does not mention the launcher
            sentence += "; give the launcher as many tasks as devices: hydra.launcher.tasks_per_node="
            sentence += str(cfg.trainer.devices)
        print(f"error: {run_dir.name}: {sentence}", file=sys.stderr)
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / ERROR).write_text(sentence + "\n")
        return None


def optimized(summary: dict[str, Any], name: str | None) -> float | None:
    """The metric of a summary that a search optimises, such as ``val/elbo``; None without a name.

    ConfigError if there is no such metric.
    """
    if name is None:
        return None
    found = {f"{stage}/{each}": value for stage in ("val", "test") for each, value in summary[stage].items()}
    if found.get(name) is None:
        raise ConfigError(
            f"optimized_metric={name}: {summary['model']} has no such metric; choose one of {', '.join(sorted(found))}"
        )
    return float(found[name])


def refuse_own_ranks(trainer: "Trainer") -> None:
    """Raise ConfigError if Lightning would start processes, as their command line would be that of the whole sweep."""
    strategy: Any = trainer.strategy
    environment = getattr(strategy, "cluster_environment", None)
    if trainer.world_size > 1 and not (environment and environment.creates_processes_externally):
        raise ConfigError(
            f"a run of a sweep has one device unless SLURM starts its processes, got {trainer.world_size}; set"
            " trainer.devices=1, or use sweep=submitit_slurm with hydra.launcher.tasks_per_node= as many as"
            " trainer.devices, or start the runs one by one"
        )


def _job_number(name: str) -> int:
    """Job number in a folder's name, such as 12 in ``12_vae``; 0 without one."""
    head = name.partition("_")[0]
    return int(head) if head.isdecimal() else 0


@contextmanager
def _environment_of_its_own() -> Iterator[None]:
    """Restore the environment and destroy the process group after a run: its process may execute the next one."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        distributed = sys.modules.get("torch.distributed")
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
