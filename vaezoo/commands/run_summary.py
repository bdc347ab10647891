"""What a training came to: its best weights measured, and the summary. It makes no models and trains nothing."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import WeightAveraging

from vaezoo import runs
from vaezoo.commands import console
from vaezoo.commands.assembly import Training, made_data
from vaezoo.commands.evaluate import evaluate_run
from vaezoo.config.errors import DataError, RunError
from vaezoo.distributed import fsdp
from vaezoo.distributed.rank_zero import is_first
from vaezoo.evaluation import FULL, QUICK, count_steps
from vaezoo.evaluation.cost import parameters
from vaezoo.models.loading import Run
from vaezoo.runs import checkpoints, environment, resuming, trust
from vaezoo.training import trackers

log = logging.getLogger(__name__)


def evaluate(run: Training) -> dict[str, Any]:
    """Validate and test the best weights, and record what came out; without checkpoints, the last ones."""
    saved = runs.RunFolder(run.run_dir).checkpoints()
    if saved:
        fsdp.load_weights(run.model, checkpoints.read(saved[0])["state_dict"])
    # An averaging callback would put its own weights in, but for validation alone.
    callbacks = [callback for callback in run.trainer.callbacks if not isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    run.trainer.callbacks = callbacks  # type: ignore[attr-defined]
    with _without_loggers(run.trainer):  # this is another model than the curve's last point, at the same step
        run.trainer.validate(run.model, datamodule=run.datamodule, verbose=False)
    numbers = {"val": _numbers(run.trainer, "val"), "test": {}}
    if run.cfg.test:
        run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
        numbers["test"] = _numbers(run.trainer, "test")
    _fill_hyperparameter_table(run, numbers)
    summarise(run, "unfinished", **numbers)  # the evaluation takes its costs over
    if run.trainer.is_global_zero:
        with run.stopping.at_once():
            _evaluate_further(run)
    summary = summarise(run, "finished", **numbers)
    if run.trainer.is_global_zero:
        console.show_result(summary, run.run_dir)
        if unused := console.unused_line(summary, run.model):
            log.warning("note        %s", unused)
        waited, seconds = run.cost.loader_wait_seconds, run.cost.training_seconds
        if held_back := run.datamodule.held_back(waited, seconds, run.cost.images):
            log.warning("note        %s", held_back)
    return summary


@contextmanager
def _without_loggers(trainer: L.Trainer) -> Iterator[None]:
    """Have nothing that is measured meanwhile come into the record of a training."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers


def _evaluate_further(run: Training) -> None:
    """Write ``evaluation.json``, in the process that writes alone: it is one device's work."""
    sizes = {"quick": QUICK, "full": FULL, "none": None}[run.cfg.evaluation]
    if sizes is None or not runs.RunFolder(run.run_dir).checkpoints():
        return
    with console.progress("evaluating", count_steps(sizes, run.datamodule)) as report:
        packages = [*trust.OWN, type(run.model).__module__.partition(".")[0]]
        device = run.trainer.strategy.root_device
        try:
            data = made_data(run.cfg.data)  # without this trainer's processes
            found = evaluate_run(Run(run.run_dir), sizes, data=data, packages=packages, device=device, report=report)
        except DataError as error:  # the training is good all the same
            log.warning("warning     no evaluation.json: %s", error)
            return
    runs.write_evaluation(run.run_dir, found)


def _numbers(trainer: L.Trainer, stage: str) -> dict[str, float]:
    """What the last evaluation logged, without the stage in its names."""
    prefix = f"{stage}/"
    found = trainer.callback_metrics.items()
    return {name.removeprefix(prefix): float(value) for name, value in found if name.startswith(prefix)}


def summarise(run: Training, status: str, **more: Any) -> dict[str, Any]:
    """Write ``summary.json`` and return what it holds."""
    choices = run.model.hparams
    summary = {
        "status": status,
        "model": run.cfg.model._target_.rpartition(".")[2],
        "network": choices["network"],
        "likelihood": choices["likelihood"],
        "objective": run.model.formula(),
        "data": run.datamodule.describe(),
        "seed": run.cfg.seed,
        "parameters": parameters(run.model),
        "epochs": run.trainer.current_epoch,
        "steps": run.trainer.global_step,
        "skipped_steps": run.model.guard.skipped,
        "changed": resuming.recorded(run.run_dir),
        "val": {},
        "test": {},
        **more,
        "cost": {
            "seconds": run.cost.seconds,
            "validation_seconds": run.cost.validation_seconds,
            "pictures_seconds": run.cost.pictures_seconds,
            "images_per_second": run.cost.images_per_second,
            "loader_wait_seconds": run.cost.loader_wait_seconds,
            "runs_at_once": run.cost.runs_at_once,
            "sessions": run.cost.sessions,
            "peak_memory_bytes": environment.peak_memory_bytes(run.trainer.strategy.root_device),
        },
        "environment": environment.describe(run.trainer.strategy.root_device),
    }
    if run.trainer.is_global_zero:
        runs.write_summary(run.run_dir, summary)
    return summary


def summarise_if_begun(run: Training, status: str, **more: Any) -> None:
    """Record how a run ended, or leave one as it was whose resume was refused; a full disk may allow neither."""
    with suppress(RunError, OSError):
        if run.beginning.begun:
            summarise(run, status, **more)
        elif run.beginning.rewind is not None and is_first():
            run.beginning.rewind.abandon()


def summarise_lost(run: Training, lost: str) -> int:
    """Record what a process can no longer tell that waits for another one; returns its exit code.

    A run that was asked to stop is interrupted, as the same signal has ended the other process.
    """
    if code := run.stopping.exit_code:
        summarise_if_begun(run, "interrupted")
        if run.trainer.is_global_zero:
            console.show_interrupted(run.run_dir)
        return code
    summarise(run, "failed", error=lost)
    if run.trainer.is_global_zero:
        log.error("error: %s", lost)
    return 1


def _fill_hyperparameter_table(run: Training, numbers: dict[str, dict[str, float]]) -> None:
    """Give all loggers the settings, and TensorBoard's HParams page what they led to."""
    trackers.fill(run.trainer.loggers, _settings(run), _results(numbers), run.trainer.global_step)


def _settings(run: Training) -> dict[str, Any]:
    """What tells runs apart in a table, the most telling first: TensorBoard shows the first few columns alone."""
    choices = dict(run.model.hparams)
    optimizer = choices.pop("optimizer")
    first = {
        "model": str(run.cfg.model._target_).rpartition(".")[2],
        "data": run.datamodule.describe()["name"],
        "batch_size": run.datamodule.batch_size,
        "epochs": run.trainer.current_epoch,
        "learning_rate": optimizer.get("lr", "default"),
        "seed": run.cfg.seed,
    }
    further = {"optimizer": optimizer, **choices}
    return {**first, **{f"model/{name}": value for name, value in further.items() if value is not None}}


def _results(numbers: dict[str, dict[str, float]]) -> dict[str, float]:
    """The numbers of the test set, or without a test of the validation set, as they were logged; best known first."""
    stage = "test" if numbers["test"] else "val"
    names = sorted(numbers[stage], key=lambda name: console.SHOWN.index(name) if name in console.SHOWN else 99)
    return {f"{stage}/{name}": numbers[stage][name] for name in names}
