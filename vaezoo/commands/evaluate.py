"""``vaezoo evaluate RUN... [KEY=VALUE...]``: evaluates runs and writes evaluation.json."""

import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo import runs
from vaezoo.config import arguments
from vaezoo.config.automatic import AUTO
from vaezoo.config.errors import ConfigError, VaezooError, printable
from vaezoo.config.validation import check_threads
from vaezoo.distributed import interrupts, threads
from vaezoo.runs import locks
from vaezoo.runs.folder import ADOPTED, COMPLETE
from vaezoo.runs.trust import OWN, allowed_packages, refuse_links

if TYPE_CHECKING:
    import torch

    from vaezoo.data import ImageDataModule
    from vaezoo.evaluation import Settings
    from vaezoo.evaluation.settings import Options
    from vaezoo.models.loading import Run

USAGE = """usage: vaezoo evaluate RUN... [KEY=VALUE...]

Measure the best weights of runs on their test sets, and write evaluation.json into each run folder.

  quick=true        the small sample sizes that every training ends with
  device=cpu        where to compute; a GPU if there is one
  packages=[NAME]   your own packages whose models may be created
  data.root=PATH    where the images are on this machine, if they have moved since training
  lpips_backbone=PATH   torchvision's weights of AlexNet or VGG16, for LPIPS; never downloaded
"""


SHOWN = (
    *("elbo", "elbo_prior", "iw_bound", "elbo_given_label", "iw_bound_given_label"),
    *("psnr", "mse", "prior_fd_classifier"),
)
"""Metrics of the line that is printed, in this order; the MSE only where there is no PSNR."""


def main(words: list[str]) -> int:
    """Evaluate all runs; returns the exit code. An error in one run is printed and does not stop the others."""
    return arguments.run(words, USAGE + _settings_in_words(), partial(_evaluate_all, words))


def _evaluate_all(words: Sequence[str]) -> int:
    paths, options, sizes = read(words)
    return for_each(paths, lambda path: evaluate(path, options, sizes))


def for_each(paths: Sequence[Path], program: Callable[[Path], object]) -> int:
    """Call a program with each run; an error in one is printed and does not stop the others. Returns the exit code."""
    failed = 0
    for path in paths:
        try:
            program(path)
        except VaezooError as error:
            print(printable(f"error: {path}: {error}"), file=sys.stderr)
            failed += 1
        except Exception:  # a bug must not stop the other runs
            traceback.print_exc()
            failed += 1
    return 1 if failed else 0


def read(words: Sequence[str]) -> tuple[list[Path], "Options", "Settings"]:
    """Parse the command line into run folders, options and sample sizes; ConfigError for invalid arguments."""
    from vaezoo.evaluation import settings

    folders, changes = arguments.split(words)
    if not folders:
        raise ConfigError("vaezoo evaluate needs at least one run folder")
    options, sizes = settings.read(changes)
    allowed_packages(options.packages)
    device_called(options.device, "evaluate.device")
    refuse_missing(options.lpips_backbone, "evaluate.lpips_backbone")
    return list(map(Path, folders)), options, sizes


def refuse_missing(lpips_backbone: str | None, key: str) -> None:
    """ConfigError if the setting ``key`` names a file that does not exist."""
    if lpips_backbone is not None and not Path(lpips_backbone).expanduser().is_file():
        raise ConfigError(
            f"{key} is {lpips_backbone}, and there is no such file; it should have torchvision's weights of AlexNet or"
            " VGG16"
        )


def device_called(name: str | None, key: str) -> Any:
    """The device of that name, the setting ``key``, or None for the default; ConfigError if it is not available."""
    import torch

    if name is None:
        return None
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"{key}={name} is not available on this machine; use cpu, or cuda with a GPU") from error
    return torch.device(name)


def _settings_in_words() -> str:
    from vaezoo.evaluation.settings import FULL

    defaults = ", ".join(f"{name}={value}" for name, value in FULL.as_dict().items())
    return f"\nSample sizes and their defaults: {defaults}\n"


def evaluate(path: Path, options: "Options", sizes: "Settings") -> None:
    """Evaluate one run and write its evaluation.json."""
    from vaezoo.models.loading import Run
    from vaezoo.training.quiet import quieten

    quieten()
    run = Run(path)
    packages = allowed_packages(options.packages)
    refuse_links(path)
    data = run.data(packages=packages, root=options.root)
    note_unfinished(run)
    device = device_called(options.device, "evaluate.device")
    with threads.limited_to(threads_of(run)), interrupts.cleaning_up(), locks.held(path):
        write_evaluation(run, sizes, data, packages, device, options.lpips_backbone)


def note_unfinished(run: "Run") -> None:
    """Print a note if a run is not finished, or if its model was trained elsewhere."""
    status = run.summary["status"]
    if status == ADOPTED:
        print(printable(f"note: {run.path} was trained elsewhere; its likelihood was fitted afterwards"))
    elif status not in COMPLETE:
        print(printable(f"note: {run.path} is {status}; its best weights so far are used"))


def write_evaluation(
    run: "Run",
    sizes: "Settings",
    data: "ImageDataModule",
    packages: Sequence[str],
    device: "torch.device | None",
    lpips_backbone: str | None = None,
) -> None:
    """Evaluate a run, whose lock is held, and write its evaluation.json."""
    from vaezoo.commands import console
    from vaezoo.evaluation import count_steps

    with console.progress(f"evaluating {run.path}", count_steps(sizes, data)) as report:
        found, mixture = evaluate_run(
            run,
            sizes,
            data=data,
            packages=packages,
            device=device,
            report=report,
            lpips_backbone=lpips_backbone,
        )
        runs.write_evaluation(run.path, found, mixture)
    print(printable(f"{run.path}/evaluation.json: {_in_short(found)}, {found['seconds']:.0f} s"))


def evaluate_run(
    run: "Run",
    settings: "Settings | None" = None,
    *,
    data: "ImageDataModule | None" = None,
    packages: Sequence[str] = OWN,
    device: "torch.device | None" = None,
    report: "Callable[[str], None]" = lambda _: None,
    lpips_backbone: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Evaluate a run's best weights; returns the content of ``evaluation.json`` and of ``mixture.json``.

    The second is the mixture fitted to the training codes, None if they have too many dimensions.

    ``settings`` are ``FULL`` if None. ``data`` replaces the data set of the run's config, as when it has moved.
    ``packages`` may be imported to create the model (see ``vaezoo.load``). ``report`` is called with the name of each
    step. ``lpips_backbone`` is a file with the weights that LPIPS needs, None for torch's own
    folder. Raises RunError without a readable checkpoint, DataError if there are too few images.
    """
    import torch

    from vaezoo.evaluation import FULL
    from vaezoo.evaluation import evaluate as measure
    from vaezoo.metrics.catalogue import CATALOGUE

    started = time.perf_counter()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):  # weights are initialised before they are loaded
        model, step = run.model_at_step(packages=packages)
        run.attach_index_prior(model, None, step)
        model = model.to(device)
    found = measure(model, data or run.data(packages=packages), settings or FULL, report, lpips_backbone=lpips_backbone)
    costs = run.summary.get("cost", {}).items()
    found["metrics"] |= {name: {"value": value} for name, value in costs if name in CATALOGUE}
    if "adopted" in run.summary:
        found["trained_elsewhere"] = run.summary["adopted"]
    found |= {"checkpoint": run.checkpoint().stem, "seconds": time.perf_counter() - started}
    if (index_prior := run.index_prior_of(model)) is not None:
        found["index_prior"] = index_prior  # of which a later one differs
    if model.mixture is None:
        return found, None
    return found, {"checkpoint": found["checkpoint"], "step": step, **model.mixture.plain()}


def threads_of(run: runs.RunFolder) -> int:
    """Number of threads that a run was trained with, at most the number of processors.

    Runs of earlier versions get the default. ConfigError if the config has an invalid value.
    """
    chosen = run.config.get("threads", AUTO)
    check_threads(chosen)
    return min(threads.choose(chosen, math.inf), threads.processors())


def _in_short(found: dict[str, Any]) -> str:
    values = {name: found["metrics"].get(name, {}).get("value") for name in SHOWN}
    if values["psnr"] is not None:
        values.pop("mse")
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items() if value is not None)
