"""After training: tests and evaluates the best weights, and writes summary.json."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import OmegaConf

from vaezoo import runs
from vaezoo.commands import console
from vaezoo.commands.assembly import Training, made_data
from vaezoo.commands.evaluate import evaluate_run
from vaezoo.config.errors import DataError, RunError
from vaezoo.data import ImageDataModule
from vaezoo.distributed.rank_zero import is_rank_zero
from vaezoo.evaluation import FULL, QUICK, count_steps
from vaezoo.evaluation.cost import count_parameters
from vaezoo.models import Autoencoder
from vaezoo.models.loading import Run
from vaezoo.runs import checkpoints, environment, resuming, trust
from vaezoo.training import fsdp, trackers

log = logging.getLogger(__name__)


def evaluate(run: Training) -> dict[str, Any]:
    """Validate, test and evaluate the best weights (the last ones without checkpoints); returns the summary."""
    saved = runs.RunFolder(run.run_dir).checkpoints()
    if saved:
        fsdp.load_weights(run.model, checkpoints.read(saved[0])["state_dict"])
    # A weight-averaging callback would swap in its own weights, and only for validation.
    callbacks = [callback for callback in run.trainer.callbacks if not isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    run.trainer.callbacks = callbacks  # type: ignore[attr-defined]
    with _without_loggers(run.trainer):  # these weights are not those of the curve's last point
        run.trainer.validate(run.model, datamodule=run.datamodule, verbose=False)
    numbers = {"val": _numbers(run.trainer, "val"), "test": {}}
    if run.cfg.test:
        run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
        numbers["test"] = _numbers(run.trainer, "test")
    _fill_hyperparameter_table(run, numbers)
    summarise(run, "unfinished", **numbers)  # the evaluation copies its costs
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
    """Detach the trainer's loggers, so that nothing is added to the record of training."""
    loggers, trainer.loggers = trainer.loggers, []
    try:
        yield
    finally:
        trainer.loggers = loggers


def _evaluate_further(run: Training) -> None:
    """Write ``evaluation.json``, if ``cfg.evaluation`` asks for it. Called in rank 0 only."""
    sizes = {"quick": QUICK, "full": FULL, "none": None}[run.cfg.evaluation]
    if sizes is None or not runs.RunFolder(run.run_dir).checkpoints():
        return
    with console.progress("evaluating", count_steps(sizes, run.datamodule)) as report:
        own = trust.packages_of(OmegaConf.to_container(run.cfg))  # type: ignore[arg-type]
        packages = [*trust.OWN, type(run.model).__module__.partition(".")[0], *own]
        device = run.trainer.strategy.root_device
        try:
            data = made_data(run.cfg.data)  # not attached to this trainer and its ranks
            found, mixture = evaluate_run(
                Run(run.run_dir), sizes, data=data, packages=packages, device=device, report=report
            )
        except DataError as error:  # the training remains valid
            log.warning("warning     no evaluation.json: %s", error)
            return
    runs.write_evaluation(run.run_dir, found, mixture)


def _numbers(trainer: L.Trainer, stage: str) -> dict[str, float]:
    """Metrics of the last validation or test, without the stage in their names."""
    prefix = f"{stage}/"
    found = trainer.callback_metrics.items()
    return {name.removeprefix(prefix): float(value) for name, value in found if name.startswith(prefix)}


def summarise(run: Training, status: str, **more: Any) -> dict[str, Any]:
    """Write ``summary.json`` in rank 0 and return its content."""
    summary = {
        "status": status,
        **about(run.model, run.datamodule),
        "seed": run.cfg.seed,
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


def about(model: Autoencoder, datamodule: ImageDataModule) -> dict[str, Any]:
    """What ``summary.json`` says of a model and its data, however it was trained."""
    return {
        "model": type(model).__name__,
        "network": model.hparams["network"],
        "code_shape": list(model.code_shape),
        "manifold_dim": model.manifold_dim,
        "likelihood": model.hparams["likelihood"],
        "perceptual": None if model.perceptual is None else model.perceptual.describe(),
        "given_label": model.is_conditional,
        "objective": model.formula(),
        "data": datamodule.describe(),
        "parameters": count_parameters(model),
    }


def summarise_if_begun(run: Training, status: str, **more: Any) -> None:
    """Write the summary of a run that has begun; restore one whose resume was refused. Disk errors are ignored."""
    with suppress(RunError, OSError):
        if run.beginning.begun:
            summarise(run, status, **more)
        elif run.beginning.rewind is not None and is_rank_zero():
            run.beginning.rewind.abandon()


def summarise_lost(run: Training, lost: str) -> int:
    """Write the summary when another rank is lost and this one cannot return; returns the exit code.

    The status is "failed", or "interrupted" if a signal asked the run to stop, since it has ended the other rank too.
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
    """Log settings to all loggers, with the results for TensorBoard's HParams page."""
    trackers.fill(run.trainer.loggers, _settings(run), _results(numbers), run.trainer.global_step)


def _settings(run: Training) -> dict[str, Any]:
    """Settings that distinguish runs, the most important first: TensorBoard shows only the first few columns."""
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
    """Test metrics (validation metrics without a test) by logged name, those of the final table first."""
    stage = "test" if numbers["test"] else "val"
    names = sorted(numbers[stage], key=lambda name: console.SHOWN.index(name) if name in console.SHOWN else 99)
    return {f"{stage}/{name}": numbers[stage][name] for name in names}
