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
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from vaezoo import config, console, environment, runs
from vaezoo.callbacks import Cost, ProgressBar, RandomState
from vaezoo.data import ImageDataModule
from vaezoo.errors import ConfigError, RunError
from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)

CHANGEABLE = ("trainer", "callbacks", "logger")
"""Groups whose settings may differ when a run goes on; any other would make it another experiment."""


@dataclass
class Training:
    """Everything that a run consists of, made and ready."""

    cfg: DictConfig
    run_dir: Path
    datamodule: ImageDataModule
    model: Autoencoder
    trainer: L.Trainer
    cost: Cost


def train(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Train, test and summarise a new run in ``run_dir``; returns what ``summary.json`` holds.

    Raises ConfigError, DataError or RunError before anything is written, NonFiniteLossError while training.
    """
    devices = cfg.trainer.devices
    if sweeping and devices not in (1, "1", [0]):
        raise ConfigError(
            f"a multirun trains each run on one device, got trainer.devices={devices}; set trainer.devices=1 or start"
            " the runs one by one"
        )
    run_dir = _shared_with_other_processes(run_dir)
    cfg = _with_run_dir(cfg, run_dir)
    config.check(cfg)
    if _first_process():
        runs.refuse_if_taken(run_dir)
    return _run(make(cfg, run_dir), checkpoint=None)


def resume(run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Go on with the run in ``run_dir`` from its last checkpoint, with its own config.

    ``overrides`` are those of the command line; only settings of trainer, callbacks and logger may be among them.
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
    if _first_process():  # missing images are named before anything is written; other processes wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
    if cfg.compile:
        model.encoder.compile()
        model.decoder.compile()
    purge = {} if step is None else {"purge_step": step + 1}
    cost = Cost()
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    trainer = instantiate(
        cfg.trainer,
        default_root_dir=str(run_dir),
        logger=[instantiate(node, **purge) for node in cfg.logger.values() if node is not None],
        callbacks=[*bar, cost, RandomState(), *callbacks],
    )
    return Training(cfg, run_dir, datamodule, model, trainer, cost)


def _run(run: Training, checkpoint: Path | None) -> dict[str, Any]:
    if _first_process():
        runs.start(run.run_dir, run.cfg)
    with _logging_to(run.run_dir):
        if _first_process():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as end:  # Lightning's answer to Ctrl-C and to SIGTERM
            _summarise(run, "interrupted")
            log.info("interrupted; go on with: python train.py resume=%s", run.run_dir)
            raise SystemExit(143 if isinstance(end, SIGTERMException) else 130) from None
        except BaseException as error:
            _summarise(run, "failed", error=str(error) or type(error).__name__)
            raise
        if run.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return _summarise(run, "finished")
        return _evaluate(run)


def _evaluate(run: Training) -> dict[str, Any]:
    """Validate and test the best weights, and record what came out."""
    run.model.load_state_dict(runs.read_checkpoint(runs.Run(run.run_dir).checkpoint())["state_dict"])
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
        console.show_result(summary, run.run_dir)
    return summary


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
            "images_per_second": run.cost.images_per_second,
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
    for override in OverridesParser.create().parse_overrides(overrides):
        key = str(override.key_or_group)
        if key == "resume":
            continue
        if key.partition(".")[0] not in CHANGEABLE or "." not in key:
            raise RunError(
                f"a resumed run keeps its config, and {key} cannot change; only {', '.join(CHANGEABLE)} settings can;"
                f" start a new run without resume= for {override.input_line}"
            )
        OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
    return cfg


def _with_run_dir(cfg: DictConfig, run_dir: Path) -> DictConfig:
    """A config of its own that says where the run really lies."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[assignment]
    cfg.run_dir, cfg.resume = str(run_dir), None
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[return-value]


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
