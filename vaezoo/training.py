"""A training run from config to summary: the one place that makes models, data and trainers. It knows no variant."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning.pytorch.callbacks import LambdaCallback, WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from vaezoo import config, console, environment, runs, sweeps
from vaezoo.callbacks import Cost, ProgressBar, RandomState
from vaezoo.cpu import cheap_cuda_checks, denormals_flushed
from vaezoo.data import ImageDataModule
from vaezoo.errors import DataError, RunError
from vaezoo.evaluation import FULL, QUICK, count_steps, evaluate_run
from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)

CHANGEABLE = ("trainer.", "callbacks.", "logger.", "data.root", "data.num_workers", "stepping")
"""Settings that may differ when a run goes on begin so; any other would make it another experiment."""


@dataclass
class Training:
    """Everything that a run consists of, made and ready."""

    cfg: DictConfig
    run_dir: Path
    datamodule: ImageDataModule
    model: Autoencoder
    trainer: L.Trainer
    cost: Cost


@denormals_flushed()
def train(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Train, test and summarise a new run in ``run_dir``; returns what ``summary.json`` holds.

    Raises ConfigError, DataError or RunError before anything is written, NonFiniteLossError while training.
    """
    if not sweeping:  # a sweep's runs have names that all their processes know, and share processes
        run_dir = _shared_with_other_processes(run_dir)
    cfg = _with_run_dir(cfg, run_dir)
    config.check(cfg)
    if _first_process():
        runs.refuse_if_taken(run_dir)
    run = make(cfg, run_dir)
    if sweeping:
        sweeps.refuse_own_ranks(run.trainer)
    return _run(run, checkpoint=None)


@denormals_flushed()
def resume(run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Go on with the run in ``run_dir`` from its last checkpoint, with its own config.

    ``overrides`` are those of the command line beside ``resume=``; only ``CHANGEABLE`` ones may be among them.
    """
    run = runs.Run(run_dir)
    checkpoint = run.checkpoint("last")
    cfg = _with_run_dir(_override(run.config, overrides), run_dir)
    config.check(cfg)
    return _run(make(cfg, run_dir, step=runs.read_checkpoint(checkpoint)["global_step"]), checkpoint)


def make(cfg: DictConfig, run_dir: Path, *, step: int | None = None) -> Training:
    """All parts of a run; its loggers go on behind ``step`` optimiser steps if there were some before."""
    console.quieten()
    datamodule: ImageDataModule = instantiate(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model: Autoencoder = instantiate(cfg.model, image_shape=list(datamodule.image_shape))
    if _first_process():  # what is wrong with images is told before anything is written; others wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()
    model.stepping = cfg.stepping
    if cfg.compile:
        model.compile_losses()

    def keep_config(trainer: L.Trainer, _: L.LightningModule) -> None:
        if trainer.is_global_zero:  # what a resumed run was changed to, once it is known to work
            runs.start(run_dir, cfg)

    purge = {} if step is None else {"purge_step": step + 1}
    cost = Cost()
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(run_dir),
        logger=[instantiate(node, **purge) for node in cfg.logger.values() if node is not None],
        callbacks=[*bar, cost, RandomState(), LambdaCallback(on_train_start=keep_config), *callbacks],
    )
    return Training(cfg, run_dir, datamodule, model, trainer, cost)


def _run(run: Training, checkpoint: Path | None) -> dict[str, Any]:
    if _first_process() and checkpoint is None:
        runs.start(run.run_dir, run.cfg)
    with _logging_to(run.run_dir):
        if _first_process():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            with cheap_cuda_checks(run.trainer.strategy.root_device):
                run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
            return _summarise(run, "finished") if run.trainer.fast_dev_run else _evaluate(run)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt) as end:  # Lightning answers Ctrl-C and SIGTERM with the first
            _summarise(run, "interrupted")
            console.show_interrupted(run.run_dir)
            raise SystemExit(143 if isinstance(end, SIGTERMException) else 130) from None
        except BaseException as error:
            _summarise(run, "failed", error=str(error) or type(error).__name__)
            raise


def _evaluate(run: Training) -> dict[str, Any]:
    """Validate and test the best weights, and record what came out; without checkpoints, the last ones."""
    saved = runs.Run(run.run_dir).checkpoints()
    if saved:
        run.model.load_state_dict(runs.read_checkpoint(saved[0])["state_dict"])
    # An averaging callback would put its own weights in, but for validation alone.
    callbacks = [callback for callback in run.trainer.callbacks if not isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    run.trainer.callbacks = callbacks  # type: ignore[attr-defined]
    run.trainer.validate(run.model, datamodule=run.datamodule, verbose=False)
    numbers = {"val": _numbers(run.trainer, "val"), "test": {}}
    if run.cfg.test:
        run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
        numbers["test"] = _numbers(run.trainer, "test")
    _fill_hyperparameter_table(run, numbers)
    summary = _summarise(run, "finished", **numbers)
    if run.trainer.is_global_zero:
        _evaluate_further(run)
        console.show_result(summary, run.run_dir)
        waited, seconds = run.cost.loader_wait_seconds, run.cost.training_seconds
        if held_back := run.datamodule.held_back(waited, seconds, run.cost.images):
            log.warning("note        %s", held_back)
    return summary


def _evaluate_further(run: Training) -> None:
    """Write ``evaluation.json``, in the process that writes alone: it is one device's work."""
    sizes = {"quick": QUICK, "full": FULL, "none": None}[run.cfg.evaluation]
    if sizes is None or not runs.Run(run.run_dir).checkpoints():
        return
    with console.progress("evaluating", count_steps(sizes, run.datamodule)) as report:
        packages = ["vaezoo", type(run.model).__module__.partition(".")[0]]
        device = run.trainer.strategy.root_device
        try:
            found = evaluate_run(runs.Run(run.run_dir), sizes, packages=packages, device=device, report=report)
        except DataError as error:  # the training is good all the same
            log.warning("warning     no evaluation.json: %s", error)
            return
    runs.write_evaluation(run.run_dir, found)


def _numbers(trainer: L.Trainer, stage: str) -> dict[str, float]:
    """What the last evaluation logged, without the stage in its names."""
    prefix = f"{stage}/"
    found = trainer.callback_metrics.items()
    return {name.removeprefix(prefix): float(value) for name, value in found if name.startswith(prefix)}


def _summarise(run: Training, status: str, **more: Any) -> dict[str, Any]:
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
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "epochs": run.trainer.current_epoch,
        "steps": run.trainer.global_step,
        "val": {},
        "test": {},
        **more,
        "cost": {
            "seconds": run.cost.seconds,
            "validation_seconds": run.cost.validation_seconds,
            "pictures_seconds": run.cost.pictures_seconds,
            "images_per_second": run.cost.images_per_second,
            "loader_wait_seconds": run.cost.loader_wait_seconds,
            "peak_memory_bytes": environment.peak_memory_bytes(run.trainer.strategy.root_device),
        },
        "environment": environment.describe(run.trainer.strategy.root_device),
    }
    if run.trainer.is_global_zero:
        runs.write_summary(run.run_dir, summary)
    return summary


def _fill_hyperparameter_table(run: Training, numbers: dict[str, dict[str, float]]) -> None:
    """Give TensorBoard the settings with what they led to: its HParams page."""
    settings = {f"model/{name}": str(value) for name, value in run.model.hparams.items()}
    settings |= {"model/name": str(run.cfg.model._target_).rpartition(".")[2], "seed": run.cfg.seed}
    results = {f"hp/{stage}_{name}": value for stage, found in numbers.items() for name, value in found.items()}
    for logger in run.trainer.loggers:
        logger.log_hyperparams(settings, results)
        logger.save()


def _override(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """A run's own config with what the command line changes in it."""
    OmegaConf.set_struct(cfg, True)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = str(override.key_or_group)
        if not key.startswith(CHANGEABLE):
            raise RunError(
                f"a resumed run keeps its config, and {key} cannot change; single settings of trainer, callbacks and"
                f" logger and data.root can; start a new run without resume= for {override.input_line}"
            )
        OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
    OmegaConf.set_struct(cfg, False)
    return cfg


def _with_run_dir(cfg: DictConfig, run_dir: Path) -> DictConfig:
    """A config of its own, resolved, that says where the run really lies, from whatever folder one looks."""
    before = str(cfg.run_dir)
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[assignment]
    cfg.run_dir, cfg.resume = before, None
    if isinstance(cfg.data.get("root"), str):
        cfg.data.root = str(Path(cfg.data.root).expanduser().absolute())
    plain = OmegaConf.to_container(cfg, resolve=True)
    return OmegaConf.create(_moved(plain, before, str(run_dir.absolute())))


def _moved(node: Any, before: str, now: str) -> Any:
    """The same plain values with every path at or below the folder ``before`` put below ``now``."""
    if isinstance(node, dict):
        return {key: _moved(value, before, now) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, before, now) for value in node]
    inside = isinstance(node, str) and (node == before or node.startswith(before + os.sep))
    return now + node[len(before) :] if inside else node


def _first_process() -> bool:
    """Whether this is the process that writes, known before there is a trainer."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def _shared_with_other_processes(run_dir: Path) -> Path:
    """The first process's run folder, whose name has a time: those that Lightning starts learn it here."""
    if _first_process():
        os.environ["VAEZOO_RUN_DIR"] = str(run_dir)
    return Path(os.environ.get("VAEZOO_RUN_DIR", run_dir))


@contextmanager
def _logging_to(run_dir: Path) -> Iterator[None]:
    """Messages also go to ``train.log`` in the run folder."""
    handler = logging.FileHandler(run_dir / "train.log") if _first_process() else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
