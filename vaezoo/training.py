"""A training run from config to record: the one place that makes models, data and trainers. It knows no variant."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf

from vaezoo import (
    checkpoints,
    config,
    console,
    locks,
    outcome,
    ranks,
    resuming,
    runs,
    sharding,
    sweeps,
    threads,
    trackers,
    trust,
)
from vaezoo.automatic import AUTO
from vaezoo.callbacks import Cost, ProgressBar, RandomState, Record, Resuming, Stopping
from vaezoo.callbacks.record import Rewind
from vaezoo.callbacks.stopping import Stopped
from vaezoo.cpu import cheap_cuda_checks, denormals_flushed
from vaezoo.data import ImageDataModule
from vaezoo.errors import ConfigError, DiskError, RunError
from vaezoo.files import CANNOT_WRITE, cannot_write
from vaezoo.first import is_first
from vaezoo.models import Autoencoder

log = logging.getLogger(__name__)

LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
"""Loops of a trainer whose state a checkpoint holds."""

UNRESTORABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError)
"""What Lightning and torch raise for a state that is not what it should be."""


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
    """Writes down that a run starts or resumes, and with what: at once, or when a resumed training is known to work.

    So a resume that is refused, by whatever part, leaves the run as it was.
    """

    def __init__(
        self, run_dir: Path, cfg: DictConfig, changed: Sequence[resuming.Change] = (), rewind: Rewind | None = None
    ) -> None:
        self.run_dir, self.cfg, self.changed, self.rewind = run_dir, cfg, changed, rewind
        self.begun = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.begin()
        self._open_trackers(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.begin()  # where nothing was left to train
        self._open_trackers(trainer)

    def _open_trackers(self, trainer: L.Trainer) -> None:
        trackers.open_all(trainer.loggers, OmegaConf.to_container(self.cfg, resolve=True))  # type: ignore[arg-type]

    def begin(self) -> None:
        """Write the config and what was changed in it, and cut the record back to the checkpoint to resume from."""
        if not self.begun and is_first():
            if self.rewind is not None:
                runs.tidy(self.run_dir)
                resuming.record(self.run_dir, self.rewind.step, self.changed)
            runs.start(self.run_dir, self.cfg)
            if self.rewind is not None:
                self.rewind.apply()
        self.begun = True


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
    run = make(cfg, run_dir, Beginning(run_dir, cfg))
    if sweeping:
        sweeps.refuse_own_ranks(run.trainer)
    ranks.refuse_machines_without_launcher(run.trainer)
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
        raise ConfigError(
            "resume=auto resumes the run in run_dir, which must be the same each time; give run_dir=FOLDER"
        )
    if not sweeping and "${now:" in str(composed["run_dir"]):
        log.warning("warning     a requeued job starts over, because run_dir contains a time; give run_dir=FOLDER")
    if not (run_dir / "config.yaml").is_file():
        return train(cfg, run_dir, sweeping=sweeping)
    run = runs.Run(run_dir)
    if is_first():
        trust.refuse_links(run_dir)
    cfg = config.placed(cfg, run_dir)
    resuming.take_chosen(run.config, cfg)
    if changed := resuming.changes(run.config, cfg, beside=resuming.CHANGEABLE):
        raise RunError(
            f"run_dir={run_dir} contains a run with another config ({resuming.in_words(changed)}); choose another"
            " run_dir, or give the previous config"
        )
    if run.summary["status"] == "finished":
        log.info("run_dir=%s is finished: there is nothing to resume", run_dir)
        return run.summary
    if any((run_dir / "checkpoints" / f"{name}.ckpt").is_file() for name in checkpoints.RESUMABLE):
        return _go_on(run_dir, cfg, sweeping=sweeping)
    if (run_dir / "checkpoints" / "best.ckpt").exists():
        raise RunError(f"{run_dir} has best.ckpt but no checkpoint to resume from; choose another run_dir")
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
        checkpoint, content = checkpoints.last_good(run_dir)
        _refuse_other_model(checkpoint, content, cfg, run_dir, changed)
        told = [*changed, *resuming.to_tell(runs.Run(run_dir).config, cfg)]
        run = make(cfg, run_dir, Beginning(run_dir, cfg, told, Rewind(run_dir, content)))
        _refuse_unfit(checkpoint, content, run)
        resuming.refuse_in_an_epoch(changed, content, checkpoint)
        if sweeping:
            sweeps.refuse_own_ranks(run.trainer)
        ranks.refuse_machines_without_launcher(run.trainer)
        if is_first() and checkpoint.stem != checkpoints.RESUMABLE[0]:
            step = content["global_step"]
            log.warning("warning     last.ckpt is damaged or missing: resuming from %s, step %s", checkpoint.name, step)
        return _run(run, checkpoint)


def _refuse_other_model(
    checkpoint: Path, content: dict[str, Any], cfg: DictConfig, run_dir: Path, changed: Sequence[resuming.Change]
) -> None:
    """RunError if a checkpoint is of another model than the config's, found without taking memory for either."""
    name, settings = str(content["model_class"]).rpartition(".")[2], content["hyper_parameters"]
    forced = {change.key for change in changed} | {change["key"] for change in resuming.recorded(run_dir)}
    resuming.refuse_other_model(checkpoint, cfg, name, settings, forced)
    model = trust.made_without_memory(cfg, resuming.image_shape(checkpoint, cfg, settings))
    if model is not None:
        weights = content["state_dict"]
        resuming.refuse_other_weights(checkpoint, type(model).__name__, model.state_dict(), weights, changed)


def _refuse_unfit(checkpoint: Path, content: dict[str, Any], run: Training) -> None:
    """RunError unless the state of training in a checkpoint is of the kind that this run would save."""
    loops = {name: getattr(run.trainer, name).state_dict() for name in LOOPS}
    callbacks: list[L.Callback] = run.trainer.callbacks  # type: ignore[attr-defined]
    kept = [each for each in callbacks if each.state_key in content["callbacks"] or isinstance(each, Cost | Resuming)]
    states = {callback.state_key: callback.state_dict() for callback in kept}
    checkpoints.refuse_unfit(checkpoint, content, {"loops": loops, "callbacks": states, **run.model.example_states()})


def make(cfg: DictConfig, run_dir: Path, beginning: Beginning) -> Training:
    """All parts of a run."""
    console.quieten()
    ranks.choose_devices(cfg.trainer)
    datamodule = made_data(cfg.data)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model: Autoencoder = instantiate(cfg.model, image_shape=list(datamodule.image_shape))
    model.stepping = cfg.stepping
    if cfg.compile:
        model.compile_losses(mode=None if cfg.compile is True else cfg.compile)

    cost, stopping, going_on = Cost(), Stopping(), [Resuming(), RandomState(), Record()]
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    saved = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = instantiate(
        cfg.trainer,
        **({} if saved else {"enable_checkpointing": False}),  # else Lightning saves by itself
        default_root_dir=str(run_dir),
        logger=[instantiate(node) for node in cfg.logger.values() if node is not None],
        callbacks=[*bar, *going_on, beginning, cost, *callbacks, stopping],  # to open trackers takes seconds of its own
    )
    sharding.check(trainer, compiled=bool(cfg.compile))
    ranks.check(trainer, {name: getattr(datamodule, name) for name in ("batch_size", "eval_batch_size")})
    if is_first():  # what is wrong with images is told before anything is written; others wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()
        keep_range(cfg, datamodule)
    cfg.threads = choose_threads(cfg.get("threads", AUTO), model, trainer, datamodule.batch_size)
    return Training(cfg, run_dir, datamodule, model, trainer, cost, stopping, beginning)


def made_data(settings: DictConfig) -> ImageDataModule:
    """The data module that settings describe; ConfigError if it is of another kind."""
    datamodule = instantiate(settings)
    if not isinstance(datamodule, ImageDataModule):
        raise ConfigError(
            f"data._target_ must be vaezoo.data.ImageDataModule or a subclass, got {settings._target_}; other data"
            " classes can be trained on from Python, see docs/guide.md"
        )
    return datamodule


def choose_threads(setting: Any, model: Autoencoder, trainer: L.Trainer, batch_size: int) -> int:
    """Threads of each process of a run whose devices have ``batch_size`` images together; see ``threads.choose``."""
    if trainer.strategy.root_device.type != "cpu":
        return threads.choose(setting, math.inf, trainer.num_devices)
    share = -(-batch_size // trainer.world_size)
    return threads.choose(setting, threads.flops_of_step(model, share), trainer.num_devices)


def keep_range(cfg: DictConfig, datamodule: ImageDataModule) -> None:
    """Have the config say which levels were chosen, so that whatever reads the run later sees the same images."""
    if cfg.data.get("range") == "auto":
        cfg.data.range = datamodule.range


def _run(run: Training, checkpoint: Path | None) -> dict[str, Any]:
    tracked = trackers.closing(run.trainer.loggers)
    with (
        threads.limited_to(run.cfg.threads),
        run.stopping.listening(),
        closing(run.datamodule),
        console.logging_to(run.run_dir),
        tracked,
    ):
        if checkpoint is None:
            run.beginning.begin()
        if is_first():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            with ranks.watching(run.trainer, partial(outcome.summarise_lost, run), lambda: run.stopping.exit_code):
                with cheap_cuda_checks(run.trainer.strategy.root_device):
                    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
                _refuse_untrained(run.trainer)
                return outcome.summarise(run, "finished") if run.trainer.fast_dev_run else outcome.evaluate(run)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt) as end:  # Lightning makes the first of the second
            outcome.summarise_if_begun(run, "interrupted")
            if not run.trainer.is_global_zero:
                raise SystemExit(0) from None  # else Lightning would kill the first process before it has ended
            console.show_interrupted(run.run_dir)
            raise SystemExit(end.code if isinstance(end, Stopped) else 130) from None
        except BaseException as error:
            told = _explained(error, run, checkpoint)
            outcome.summarise_if_begun(run, "failed", error=str(told) or type(told).__name__)
            if told is error:
                raise
            raise told from error


def _refuse_untrained(trainer: L.Trainer) -> None:
    """ConfigError if no step was taken, whatever settings led to it: a record of it would be one of random weights."""
    if not trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ConfigError(
            "no step was trained: the settings of trainer and data end training before its first step; change them"
        )


def _explained(error: BaseException, run: Training, checkpoint: Path | None) -> BaseException:
    """What to raise for an error: full disks, and checkpoints that cannot be restored, are no fault of the program."""
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        error = DiskError(cannot_write(error.filename or f"in run_dir={run.run_dir}", error))
    if isinstance(error, DiskError):
        saved = any((run.run_dir / "checkpoints" / f"{name}.ckpt").is_file() for name in checkpoints.RESUMABLE)
        anew = "and train again in another run_dir, because no step was saved yet"
        then = f"then resume={run.run_dir}" if saved else anew
        return DiskError(f"{error}, {then}")
    if checkpoint is not None and not run.beginning.begun and isinstance(error, UNRESTORABLE):
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return RunError(f"{checkpoint} cannot be restored by this version of vaezoo ({reason}); use another one")
    return error


@contextmanager
def _alone_in(run_dir: Path) -> Iterator[None]:
    """Have no other run write to the folder; the first process sees to that for all."""
    with ExitStack() as stack:
        if is_first():
            stack.enter_context(locks.held(run_dir))
        yield
