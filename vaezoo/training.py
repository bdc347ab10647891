"""A training run from config to summary: the one place that makes models, data and trainers. It knows no variant."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint, LambdaCallback, WeightAveraging
from omegaconf import DictConfig, OmegaConf

from vaezoo import config, console, environment, locks, ranks, resuming, runs, sharding, sweeps, trust
from vaezoo.callbacks import Cost, ProgressBar, RandomState, Record, Resuming, Stopping
from vaezoo.callbacks.record import take_back
from vaezoo.callbacks.stopping import Stopped
from vaezoo.cpu import cheap_cuda_checks, denormals_flushed
from vaezoo.data import ImageDataModule
from vaezoo.errors import ConfigError, DataError, RunError
from vaezoo.evaluation import FULL, QUICK, count_steps, evaluate_run
from vaezoo.files import CANNOT_WRITE, cannot_write
from vaezoo.first import is_first
from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)

CHANGEABLE = ("trainer.", "callbacks.", "logger.", "data.root", "data.num_workers", "stepping")
"""Settings that may differ when a run goes on begin so; any other would make it another experiment."""

GROUPS = ("model", "data", "trainer", "callbacks", "logger", "experiment")
"""Words that choose a whole yaml when a config is composed, which a resumed run's is already."""


@dataclass
class Training:
    """Everything that a run consists of, made and ready."""

    cfg: DictConfig
    run_dir: Path
    datamodule: ImageDataModule
    model: Autoencoder
    trainer: L.Trainer
    cost: Cost
    stopping: Stopping


@denormals_flushed()
def train(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Train, test and summarise a new run in ``run_dir``; returns what ``summary.json`` holds.

    Raises ConfigError, DataError or RunError before anything is written, NonFiniteLossError while training.
    """
    # The folders of a sweep's runs have names that all their processes know.
    with nullcontext(run_dir) if sweeping else ranks.agreeing_on(run_dir) as run_dir:
        return _begin(cfg, run_dir, sweeping=sweeping)


def _begin(cfg: DictConfig, run_dir: Path, *, sweeping: bool) -> dict[str, Any]:
    cfg = _with_run_dir(cfg, run_dir)
    config.check(cfg)
    if _first_process():
        locks.refuse_if_held(run_dir)
        runs.refuse_if_taken(run_dir)
    run = make(cfg, run_dir)
    if sweeping:
        sweeps.refuse_own_ranks(run.trainer)
    with _alone_in(run_dir):
        if _first_process():
            runs.refuse_if_taken(run_dir)  # by another one that began since
        return _run(run, checkpoint=None)


@denormals_flushed()
def train_or_resume(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Go on with the run in ``run_dir`` if an unfinished one of the same config lies there, else train it.

    What lies there without a checkpoint is begun anew; of a finished run, only the summary is returned. Every process
    of a run comes to the same answer, also one that looks when the first is at work already. RunError if the run has
    another config.
    """
    composed: Any = OmegaConf.to_container(cfg, resolve=False)
    if not sweeping and cfg.resume == "auto" and "${now:" in str(composed["run_dir"]):
        raise ConfigError("resume=auto goes on with run_dir, which must be the same each time; give run_dir=FOLDER")
    if not (run_dir / "config.yaml").is_file():
        return train(cfg, run_dir, sweeping=sweeping)
    run = runs.Run(run_dir)
    cfg = _with_run_dir(cfg, run_dir)
    if changed := resuming.changes(run.config, cfg, beside=CHANGEABLE):
        raise RunError(
            f"run_dir={run_dir} holds a run of another config ({resuming.in_words(changed)}); choose another run_dir,"
            " or give the config of before"
        )
    if run.summary["status"] == "finished":
        log.info("run_dir=%s is finished: there is nothing to go on with", run_dir)
        return run.summary
    if any((run_dir / "checkpoints" / f"{name}.ckpt").exists() for name in runs.GO_ON_FROM):
        return _go_on(run_dir, cfg, sweeping=sweeping)
    if _first_process():
        with locks.held(run_dir):
            runs.clear(run_dir)
    return train(cfg, run_dir, sweeping=sweeping)


@denormals_flushed()
def resume(
    run_dir: Path, overrides: list[str], packages: Sequence[str] = trust.OWN, *, force: bool = False
) -> dict[str, Any]:
    """Go on with the run in ``run_dir`` from its last checkpoint, with its own config.

    ``overrides`` are those of the command line beside ``resume=``; others than ``CHANGEABLE`` ones need ``force``, and
    are recorded. RunError, before anything is written, if they cannot be, or if the checkpoint is of another model.
    ``packages`` are those whose classes its config may make.
    """
    if _first_process():
        locks.refuse_if_held(run_dir)
    run = runs.Run(run_dir)
    run.refuse_untrusted(packages, told=overrides)
    cfg = _override(run.config, overrides)
    changed = resuming.changes(run.config, cfg, beside=CHANGEABLE)
    resuming.refuse(changed, run_dir, force=force)
    return _go_on(run_dir, cfg, changed)


def _go_on(
    run_dir: Path, cfg: DictConfig, changed: Sequence[resuming.Change] = (), *, sweeping: bool = False
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, or from the one before where that is damaged."""
    cfg = _with_run_dir(cfg, run_dir)
    config.check(cfg)
    with _alone_in(run_dir):
        checkpoint, content = runs.last_good(runs.Run(run_dir))
        step = content["global_step"]
        name = str(content["model_class"]).rpartition(".")[2]
        forced = {change.key for change in changed} | {change["key"] for change in resuming.recorded(run_dir)}
        resuming.refuse_in_an_epoch(changed, content, checkpoint)
        resuming.refuse_other_model(checkpoint, cfg, name, content["hyper_parameters"], forced)
        model = trust.made_without_memory(cfg, content)
        if model is not None:
            weights = content["state_dict"]
            resuming.refuse_other_weights(checkpoint, type(model).__name__, model.state_dict(), weights, changed)
        run = make(cfg, run_dir, step=step)
        if sweeping:
            sweeps.refuse_own_ranks(run.trainer)
        if _first_process():
            if checkpoint.stem != runs.GO_ON_FROM[0]:
                log.warning(
                    "warning     last.ckpt is damaged or missing: the run goes on from %s, step %s",
                    checkpoint.name,
                    step,
                )
            runs.tidy(run_dir)
            take_back(run_dir, content)

        def note(trainer: L.Trainer, _: L.LightningModule) -> None:
            if trainer.is_global_zero and changed:
                resuming.record(run_dir, step, changed)

        run.trainer.callbacks.append(LambdaCallback(on_train_start=note))  # type: ignore[attr-defined]
        return _run(run, checkpoint)


def make(cfg: DictConfig, run_dir: Path, *, step: int | None = None) -> Training:
    """All parts of a run; its loggers go on behind ``step`` optimiser steps if there were some before."""
    console.quieten()
    ranks.choose_devices(cfg.trainer)
    datamodule: ImageDataModule = instantiate(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model: Autoencoder = instantiate(cfg.model, image_shape=list(datamodule.image_shape))
    model.stepping = cfg.stepping
    if cfg.compile:
        model.compile_losses()

    def keep_config(trainer: L.Trainer, _: L.LightningModule) -> None:
        if trainer.is_global_zero:  # what a resumed run was changed to, once it is known to work
            runs.start(run_dir, cfg)

    purge = {} if step is None else {"purge_step": step + 1}
    cost, stopping, going_on = Cost(), Stopping(), [Resuming(), RandomState(), Record()]
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    saved = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = instantiate(
        cfg.trainer,
        **({} if saved else {"enable_checkpointing": False}),  # else Lightning saves by itself
        default_root_dir=str(run_dir),
        logger=[instantiate(node, **purge) for node in cfg.logger.values() if node is not None],
        callbacks=[*bar, cost, *going_on, LambdaCallback(on_train_start=keep_config), *callbacks, stopping],
    )
    sharding.check(trainer, model, compiled=cfg.compile)
    ranks.check(trainer, {name: getattr(datamodule, name) for name in ("batch_size", "eval_batch_size")})
    if _first_process():  # what is wrong with images is told before anything is written; others wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()
    return Training(cfg, run_dir, datamodule, model, trainer, cost, stopping)


def _run(run: Training, checkpoint: Path | None) -> dict[str, Any]:
    if _first_process():
        if checkpoint is None:
            runs.start(run.run_dir, run.cfg)
        runs.begin(run.run_dir)
    with _logging_to(run.run_dir), run.stopping.listening():
        if _first_process():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            with ranks.watching(run.trainer, lambda lost: _summarise_lost(run, lost)):
                with cheap_cuda_checks(run.trainer.strategy.root_device):
                    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
                return _summarise(run, "finished") if run.trainer.fast_dev_run else _evaluate(run)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt) as end:  # Lightning makes the first of the second
            _summarise(run, "interrupted")
            if not run.trainer.is_global_zero:
                raise SystemExit(0) from None  # else Lightning would kill the first process before it has ended
            console.show_interrupted(run.run_dir)
            raise SystemExit(end.code if isinstance(end, Stopped) else 130) from None
        except BaseException as error:
            told = _as_run_error(error, run.run_dir)
            with suppress(RunError, OSError):  # the disk may be full
                _summarise(run, "failed", error=str(told) or type(told).__name__)
            if told is error:
                raise
            raise told from error


def _as_run_error(error: BaseException, run_dir: Path) -> BaseException:
    """What to tell of an error: a full disk is none of the program's."""
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return RunError(cannot_write(error.filename or f"in run_dir={run_dir}", error))
    return error


def _evaluate(run: Training) -> dict[str, Any]:
    """Validate and test the best weights, and record what came out; without checkpoints, the last ones."""
    saved = runs.Run(run.run_dir).checkpoints()
    if saved:
        sharding.load_weights(run.model, runs.read_checkpoint(saved[0])["state_dict"])
    # An averaging callback would put its own weights in, but for validation alone.
    callbacks = [callback for callback in run.trainer.callbacks if not isinstance(callback, WeightAveraging)]  # type: ignore[attr-defined]
    run.trainer.callbacks = callbacks  # type: ignore[attr-defined]
    run.trainer.validate(run.model, datamodule=run.datamodule, verbose=False)
    numbers = {"val": _numbers(run.trainer, "val"), "test": {}}
    if run.cfg.test:
        run.trainer.test(run.model, datamodule=run.datamodule, verbose=False)
        numbers["test"] = _numbers(run.trainer, "test")
    _fill_hyperparameter_table(run, numbers)
    _summarise(run, "unfinished", **numbers)  # the evaluation takes its costs over
    if run.trainer.is_global_zero:
        with run.stopping.at_once():
            _evaluate_further(run)
    summary = _summarise(run, "finished", **numbers)
    if run.trainer.is_global_zero:
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
        packages = [*trust.OWN, type(run.model).__module__.partition(".")[0]]
        device = run.trainer.strategy.root_device
        try:
            data = instantiate(run.cfg.data)  # without this trainer's processes
            found = evaluate_run(
                runs.Run(run.run_dir), sizes, data=data, packages=packages, device=device, report=report
            )
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
            "peak_memory_bytes": environment.peak_memory_bytes(run.trainer.strategy.root_device),
        },
        "environment": environment.describe(run.trainer.strategy.root_device),
    }
    if run.trainer.is_global_zero:
        runs.write_summary(run.run_dir, summary)
    return summary


def _summarise_lost(run: Training, lost: str) -> None:
    """Record what a process can no longer tell that waits for another one."""
    _summarise(run, "failed", error=lost)
    if _first_process():
        log.error("error: %s", lost)


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
        group = override.key_or_group in GROUPS and not isinstance(override.value(), dict)
        if group or key in ("run_dir", "resume") or key.startswith("hydra"):
            raise RunError(
                f"a resumed run keeps its config, and {key} cannot change as a whole; single settings can, those of"
                f" trainer, callbacks and logger and data.root freely; start a new run without resume= for"
                f" {override.input_line}"
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
    return is_first()


@contextmanager
def _alone_in(run_dir: Path) -> Iterator[None]:
    """Have no other run write to the folder; the first process sees to that for all."""
    with ExitStack() as stack:
        if _first_process():
            stack.enter_context(locks.held(run_dir))
        yield


class _LogFile(logging.FileHandler):
    """A log file that a full disk cuts short, without a word."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: what goes wrong with the disk is told when it matters."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(run_dir: Path) -> Iterator[None]:
    """Messages also go to ``train.log`` in the run folder."""
    handler = _LogFile(run_dir / "train.log") if _first_process() else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
