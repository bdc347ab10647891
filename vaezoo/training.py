"""A training run from config to record: the one place that makes models, data and trainers. It knows no variant."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf

from vaezoo import config, console, locks, outcome, ranks, resuming, runs, sharding, sweeps, trust
from vaezoo.callbacks import Cost, ProgressBar, RandomState, Record, Resuming, Stopping
from vaezoo.callbacks.record import forget, put_aside, put_back, take_back
from vaezoo.callbacks.stopping import Stopped
from vaezoo.cpu import cheap_cuda_checks, denormals_flushed
from vaezoo.data import ImageDataModule
from vaezoo.errors import ConfigError, RunError
from vaezoo.files import CANNOT_WRITE, cannot_write
from vaezoo.first import is_first
from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)


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
    beginning: "Beginning"


class Beginning(L.Callback):
    """What is written when training is known to work, and put back if it does not: a refusal loses nothing."""

    def __init__(self, run_dir: Path, cfg: DictConfig, step: int, changed: Sequence[resuming.Change]) -> None:
        self.run_dir, self.cfg, self.step, self.changed = run_dir, cfg, step, changed
        self._works = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.works()

    def works(self) -> None:
        """Keep the config that a run goes on with, and what was changed in it."""
        if not self._works and is_first():
            if self.changed:
                resuming.record(self.run_dir, self.step, self.changed)
            runs.start(self.run_dir, self.cfg)
            forget(self.run_dir)
        self._works = True

    def undo(self) -> bool:
        """Put the record of before back, if there was one and training has not begun."""
        return not self._works and is_first() and put_back(self.run_dir)


@denormals_flushed()
def train(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Train, test and summarise a new run in ``run_dir``; returns what ``summary.json`` holds.

    Raises ConfigError, DataError or RunError before anything is written, NonFiniteLossError while training.
    """
    # The folders of a sweep's runs have names that all their processes know.
    with nullcontext(run_dir) if sweeping else ranks.agreeing_on(run_dir) as run_dir:
        return _begin(cfg, run_dir, sweeping=sweeping)


def _begin(cfg: DictConfig, run_dir: Path, *, sweeping: bool) -> dict[str, Any]:
    cfg = config.placed(cfg, run_dir)
    config.check(cfg)
    if is_first():
        locks.refuse_if_held(run_dir)
        runs.refuse_if_taken(run_dir)
    run = make(cfg, run_dir)
    if sweeping:
        sweeps.refuse_own_ranks(run.trainer)
    with _alone_in(run_dir):
        if is_first():
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
    if not sweeping and "${now:" in str(composed["run_dir"]):
        log.warning("warning     a job that is requeued begins anew, as run_dir has a time in it; give run_dir=FOLDER")
    if not (run_dir / "config.yaml").is_file():
        return train(cfg, run_dir, sweeping=sweeping)
    run = runs.Run(run_dir)
    if is_first():
        trust.refuse_links(run_dir)
    cfg = config.placed(cfg, run_dir)
    if changed := resuming.changes(run.config, cfg, beside=resuming.CHANGEABLE):
        raise RunError(
            f"run_dir={run_dir} holds a run of another config ({resuming.in_words(changed)}); choose another run_dir,"
            " or give the config of before"
        )
    if run.summary["status"] == "finished":
        log.info("run_dir=%s is finished: there is nothing to go on with", run_dir)
        return run.summary
    if any((run_dir / "checkpoints" / f"{name}.ckpt").is_file() for name in runs.GO_ON_FROM):
        return _go_on(run_dir, cfg, sweeping=sweeping)
    if (run_dir / "checkpoints" / "best.ckpt").exists():
        raise RunError(f"{run_dir} has best.ckpt and no checkpoint to go on from; choose another run_dir")
    if is_first():
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
    if is_first():
        locks.refuse_if_held(run_dir)
    run = runs.Run(run_dir)
    run.refuse_untrusted(packages, told=overrides)
    cfg = resuming.override(run.config, overrides)
    changed = resuming.changes(run.config, cfg, beside=resuming.CHANGEABLE)
    resuming.refuse(changed, run_dir, force=force)
    return _go_on(run_dir, cfg, changed)


def _go_on(
    run_dir: Path, cfg: DictConfig, changed: Sequence[resuming.Change] = (), *, sweeping: bool = False
) -> dict[str, Any]:
    """Go on with a run from its last checkpoint, or from the one before where that is damaged."""
    cfg = config.placed(cfg, run_dir)
    config.check(cfg)
    with _alone_in(run_dir):
        checkpoint, content = runs.last_good(runs.Run(run_dir))
        step = content["global_step"]
        name = str(content["model_class"]).rpartition(".")[2]
        forced = {change.key for change in changed} | {change["key"] for change in resuming.recorded(run_dir)}
        resuming.refuse_in_an_epoch(changed, content, checkpoint)
        resuming.refuse_other_model(checkpoint, cfg, name, content["hyper_parameters"], forced)
        shape = resuming.image_shape(checkpoint, cfg, content["hyper_parameters"])
        model = trust.made_without_memory(cfg, shape)
        if model is not None:
            weights = content["state_dict"]
            resuming.refuse_other_weights(checkpoint, type(model).__name__, model.state_dict(), weights, changed)
        run = make(cfg, run_dir, step=step, changed=[*changed, *resuming.to_tell(runs.Run(run_dir).config, cfg)])
        if sweeping:
            sweeps.refuse_own_ranks(run.trainer)
        if is_first():
            if checkpoint.stem != runs.GO_ON_FROM[0]:
                log.warning(
                    "warning     last.ckpt is damaged or missing: the run goes on from %s, step %s",
                    checkpoint.name,
                    step,
                )
            runs.tidy(run_dir)
            put_aside(run_dir)
            take_back(run_dir, content)
        return _run(run, checkpoint)


def make(
    cfg: DictConfig, run_dir: Path, *, step: int | None = None, changed: Sequence[resuming.Change] = ()
) -> Training:
    """All parts of a run; its loggers go on behind ``step`` optimiser steps if there were some before.

    ``changed`` is what differs from the config of before, to be recorded.
    """
    console.quieten()
    ranks.choose_devices(cfg.trainer)
    datamodule: ImageDataModule = instantiate(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model: Autoencoder = instantiate(cfg.model, image_shape=list(datamodule.image_shape))
    model.stepping = cfg.stepping
    if cfg.compile:
        model.compile_losses()

    purge = {} if step is None else {"purge_step": step + 1}
    cost, stopping, going_on = Cost(), Stopping(), [Resuming(), RandomState(), Record()]
    beginning = Beginning(run_dir, cfg, step or 0, changed)
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    saved = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = instantiate(
        cfg.trainer,
        **({} if saved else {"enable_checkpointing": False}),  # else Lightning saves by itself
        default_root_dir=str(run_dir),
        logger=[instantiate(node, **purge) for node in cfg.logger.values() if node is not None],
        callbacks=[*bar, cost, *going_on, beginning, *callbacks, stopping],
    )
    sharding.check(trainer, model, compiled=cfg.compile)
    ranks.check(trainer, {name: getattr(datamodule, name) for name in ("batch_size", "eval_batch_size")})
    if is_first():  # what is wrong with images is told before anything is written; others wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()
    return Training(cfg, run_dir, datamodule, model, trainer, cost, stopping, beginning)


def _run(run: Training, checkpoint: Path | None) -> dict[str, Any]:
    if is_first():
        if checkpoint is None:
            runs.start(run.run_dir, run.cfg)
        runs.begin(run.run_dir)
    with console.logging_to(run.run_dir), run.stopping.listening():
        if is_first():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            with ranks.watching(run.trainer, lambda lost: outcome.summarise_lost(run, lost)):
                with cheap_cuda_checks(run.trainer.strategy.root_device):
                    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
                _refuse_untrained(run.trainer)
                run.beginning.works()  # also where nothing was left to train
                return outcome.summarise(run, "finished") if run.trainer.fast_dev_run else outcome.evaluate(run)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt) as end:  # Lightning makes the first of the second
            with suppress(RunError, OSError):  # the disk may be full, and the checkpoint is what counts
                if not run.beginning.undo():
                    outcome.summarise(run, "interrupted")
            if not run.trainer.is_global_zero:
                raise SystemExit(0) from None  # else Lightning would kill the first process before it has ended
            console.show_interrupted(run.run_dir)
            raise SystemExit(end.code if isinstance(end, Stopped) else 130) from None
        except BaseException as error:
            told = _as_run_error(error, run.run_dir)
            with suppress(RunError, OSError):
                if not run.beginning.undo():
                    outcome.summarise(run, "failed", error=str(told) or type(told).__name__)
            if told is error:
                raise
            raise told from error


def _refuse_untrained(trainer: L.Trainer) -> None:
    """ConfigError if no step was taken, whatever settings led to it: a record of it would be one of random weights."""
    if not trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ConfigError("no step was trained: the settings of trainer and data end the training before its first one")


def _as_run_error(error: BaseException, run_dir: Path) -> BaseException:
    """What to tell of an error: a full disk is none of the program's."""
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return RunError(cannot_write(error.filename or f"in run_dir={run_dir}", error))
    return error


@contextmanager
def _alone_in(run_dir: Path) -> Iterator[None]:
    """Have no other run write to the folder; the first process sees to that for all."""
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(locks.held(run_dir))
        yield
