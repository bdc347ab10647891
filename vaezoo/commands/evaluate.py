"""``vaezoo evaluate RUN... [KEY=VALUE...]``: evaluates runs and writes evaluation.json."""

import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo import runs
from vaezoo.config.automatic import AUTO
from vaezoo.config.errors import ConfigError, VaezooError, printable
from vaezoo.config.hydra_config import read_value
from vaezoo.config.validation import check_threads
from vaezoo.distributed import interrupts, threads
from vaezoo.runs import locks
from vaezoo.runs.trust import OWN, allowed_packages, refuse_links

if TYPE_CHECKING:
    import torch

    from vaezoo.data import ImageDataModule
    from vaezoo.evaluation import Settings
    from vaezoo.models.loading import Run

USAGE = """usage: vaezoo evaluate RUN... [KEY=VALUE...]

Measure the best weights of runs on their test sets, and write evaluation.json into each run folder.

  quick=true        the small sample sizes that every training ends with
  device=cpu        where to compute; a GPU if there is one
  packages=[NAME]   your own packages whose models may be created
  data.root=PATH    where the images are on this machine, if they have moved since training
"""


def main(arguments: list[str]) -> int:
    """Evaluate all runs; returns the exit code. An error in one run is printed and does not stop the others."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE + _settings_in_words())
        return 0 if arguments else 2
    try:
        paths, changes = read(arguments)
        options = {name: changes.pop(name, None) for name in ("quick", "device", "data.root", "packages")}
        _settings(options, changes)  # to report mistakes before the first run
        _device(options["device"])
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = 0
    for path in paths:
        try:
            evaluate(path, options, changes)
        except VaezooError as error:
            print(printable(f"error: {path}: {error}"), file=sys.stderr)
            failed += 1
        except Exception:  # a bug must not stop the other runs
            traceback.print_exc()
            failed += 1
    return 1 if failed else 0


def read(arguments: list[str]) -> tuple[list[Path], dict[str, Any]]:
    """Run folders and settings; an argument is a folder if one of that name exists, even if it contains ``=``."""
    folders = [Path(argument) for argument in arguments if os.path.isdir(argument) or "=" not in argument]
    settings = [argument for argument in arguments if "=" in argument and not os.path.isdir(argument)]
    if not folders:
        raise ConfigError("vaezoo evaluate needs at least one run folder")
    return folders, {setting.partition("=")[0]: read_value(setting) for setting in settings}


def _settings(options: dict[str, Any], changes: dict[str, Any]) -> Any:
    from vaezoo.evaluation.settings import FULL, QUICK, with_changes

    allowed_packages(options["packages"])
    if options["quick"] not in (None, True, False):
        raise ConfigError(f"evaluate.quick must be true or false, got {options['quick']!r}")
    return with_changes(QUICK if options["quick"] else FULL, changes)


def _device(name: Any) -> Any:
    """The device of that name, or None for the default; ConfigError if it is not available."""
    import torch

    if name is None:
        return None
    try:
        torch.zeros(1, device=str(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"evaluate.device={name} is not available on this machine; use cpu, or cuda with a GPU"
        ) from error
    return torch.device(str(name))


def _settings_in_words() -> str:
    from vaezoo.evaluation.settings import FULL

    defaults = ", ".join(f"{name}={value}" for name, value in FULL.as_dict().items())
    return f"\nSample sizes and their defaults: {defaults}"


def evaluate(path: Path, options: dict[str, Any], changes: dict[str, Any]) -> None:
    """Evaluate one run and write its evaluation.json."""
    from vaezoo.commands import console
    from vaezoo.evaluation.model import count_steps
    from vaezoo.models.loading import Run
    from vaezoo.training.quiet import quieten

    quieten()
    run = Run(path)
    packages = allowed_packages(options["packages"])
    refuse_links(path)
    root = options["data.root"]
    data = run.data(packages=packages, root=None if root is None else str(root))
    status = run.summary["status"]
    if status != "finished":
        print(printable(f"note: {path} is {status}; its best weights so far are evaluated"))
    device = _device(options["device"])
    sizes = _settings(options, changes)
    with (
        threads.limited_to(threads_of(run)),
        interrupts.cleaning_up(),
        locks.held(path),
        console.progress(f"evaluating {path}", count_steps(sizes, data)) as report,
    ):
        found = evaluate_run(
            run,
            sizes,
            data=data,
            packages=packages,
            device=device,
            report=report,
        )
        runs.write_evaluation(path, found)
    print(printable(f"{path}/evaluation.json: {_in_short(found)}, {found['seconds']:.0f} s"))


def evaluate_run(
    run: "Run",
    settings: "Settings | None" = None,
    *,
    data: "ImageDataModule | None" = None,
    packages: Sequence[str] = OWN,
    device: "torch.device | None" = None,
    report: "Callable[[str], None]" = lambda _: None,
) -> dict[str, Any]:
    """Evaluate a run's best weights; returns the content of ``evaluation.json``.

    ``settings`` are ``FULL`` if None. ``data`` replaces the data set of the run's config, as when it has moved.
    ``packages`` may be imported to create the model (see ``vaezoo.load``). ``report`` is called with the name of each
    step. Raises RunError without a readable checkpoint, DataError if there are too few images.
    """
    import torch

    from vaezoo.evaluation import FULL
    from vaezoo.evaluation import evaluate as measure
    from vaezoo.metrics.catalogue import CATALOGUE

    started = time.perf_counter()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):  # weights are initialised before they are loaded
        model = run.model(packages=packages).to(device)
    found = measure(model, data or run.data(packages=packages), settings or FULL, report)
    costs = run.summary.get("cost", {}).items()
    found["metrics"] |= {name: {"value": value} for name, value in costs if name in CATALOGUE}
    return found | {"checkpoint": run.checkpoint().stem, "seconds": time.perf_counter() - started}


def threads_of(run: runs.RunFolder) -> int:
    """Number of threads that a run was trained with, at most the number of processors.

    Runs of earlier versions get the default. ConfigError if the config has an invalid value.
    """
    chosen = run.config.get("threads", AUTO)
    check_threads(chosen)
    return min(threads.choose(chosen, math.inf), threads.processors())


def _in_short(found: dict[str, Any]) -> str:
    shown = [(name, found["metrics"][name]["value"]) for name in ("elbo", "iw_bound", "psnr", "prior_fd_classifier")]
    return ", ".join(f"{name} {value:.2f}" for name, value in shown if value is not None)
