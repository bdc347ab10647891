"""A training run: starts or resumes it, trains, and writes its record."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from omegaconf import DictConfig, OmegaConf

from vaezoo import runs
from vaezoo.commands import console, run_summary, sweeps
from vaezoo.commands.assembly import Beginning, Training, assemble
from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError, DiskError, RunError
from vaezoo.distributed import ranks, threads
from vaezoo.distributed.rank_zero import is_rank_zero
from vaezoo.models.loading import make_on_meta_device
from vaezoo.runs import checkpoints, locks, resuming, trust
from vaezoo.runs.files import CANNOT_WRITE, cannot_write
from vaezoo.runs.folder import ADOPTED
from vaezoo.training import trackers
from vaezoo.training.callbacks import Cost, Resuming
from vaezoo.training.callbacks.record import Rewind
from vaezoo.training.callbacks.stopping import Stopped
from vaezoo.training.cpu_settings import cheap_cuda_checks, denormals_flushed
from vaezoo.training.lightning_internals import dismiss_process_observer

log = logging.getLogger(__name__)

LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
"""Loops of a trainer whose state is in checkpoints."""

UNRESTORABLE = (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError)
"""Errors that Lightning and torch raise for an invalid state."""


@denormals_flushed()
def train(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Train, test and summarise a new run in ``run_dir``; returns the content of ``summary.json``.

    Raises ConfigError, DataError or RunError before anything is written, NonFiniteLossError during training.
    """
    # In a sweep, all ranks are given the same folder.
    with nullcontext(run_dir) if sweeping else ranks.agreeing_on(run_dir) as run_dir:
        return _begin(cfg, run_dir, sweeping=sweeping)


def _begin(cfg: DictConfig, run_dir: Path, *, sweeping: bool) -> dict[str, Any]:
    cfg = hydra_config.with_run_dir(cfg, run_dir)
    hydra_config.check(cfg)
    if is_rank_zero():
        locks.refuse_if_held(run_dir)
        runs.refuse_if_taken(run_dir)
    run = assemble(cfg, run_dir, Beginning(run_dir, cfg))
    if sweeping:
        sweeps.refuse_own_ranks(run.trainer)
    ranks.refuse_machines_without_launcher(run.trainer)
    with _alone_in(run_dir):
        if is_rank_zero():
            runs.refuse_if_taken(run_dir)  # by a run that has started since the first check
        return _run(run, checkpoint=None)


@denormals_flushed()
def train_or_resume(cfg: DictConfig, run_dir: Path, *, sweeping: bool = False) -> dict[str, Any]:
    """Resume the unfinished run in ``run_dir`` if it has the same config, else train a new one.

    A run without a checkpoint is restarted; of a finished run, only the summary is returned. All ranks decide alike,
    even if rank 0 has already started. RunError if the run has another config.
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
    run = runs.RunFolder(run_dir)
    if is_rank_zero():
        trust.refuse_links(run_dir)
    cfg = hydra_config.with_run_dir(cfg, run_dir)
    resuming.take_chosen(run.config, cfg)
    if changed := resuming.changes(run.config, cfg, beside=resuming.CHANGEABLE):
        raise RunError(
            f"run_dir={run_dir} contains a run with another config ({resuming.describe(changed)}); choose another"
            " run_dir, or give the previous config"
        )
    if run.summary["status"] == "finished":
        log.info("run_dir=%s is finished: there is nothing to resume", run_dir)
        return run.summary
    if any((run_dir / "checkpoints" / f"{name}.ckpt").is_file() for name in checkpoints.RESUMABLE):
        return _resume_from_checkpoint(run_dir, cfg, sweeping=sweeping)
    if (run_dir / "checkpoints" / "best.ckpt").exists():
        raise RunError(f"{run_dir} has best.ckpt but no checkpoint to resume from; choose another run_dir")
    if is_rank_zero():
        with locks.held(run_dir):
            runs.clear(run_dir)
    return train(cfg, run_dir, sweeping=sweeping)


@denormals_flushed()
def resume(
    run_dir: Path, overrides: list[str], packages: Sequence[str] = trust.OWN, *, force: bool = False
) -> dict[str, Any]:
    """Resume the run in ``run_dir`` from its last checkpoint, with its own config.

    ``overrides`` are further settings of the command line; those outside ``CHANGEABLE`` need ``force``, and are
    recorded. ``packages`` are those whose classes its config may create. Raises RunError, before anything is written,
    for refused overrides or a checkpoint of another model.
    """
    if is_rank_zero():
        locks.refuse_if_held(run_dir)
    run = runs.RunFolder(run_dir)
    if run.summary["status"] == ADOPTED:
        raise RunError(f"{run_dir} was trained elsewhere, so there is nothing to resume; train another model beside it")
    run.refuse_untrusted(packages, overrides=overrides)
    cfg = resuming.override(run.config, overrides)
    changed = resuming.changes(run.config, cfg, beside=resuming.CHANGEABLE)
    resuming.refuse(changed, run_dir, force=force)
    return _resume_from_checkpoint(run_dir, cfg, changed)


def _resume_from_checkpoint(
    run_dir: Path, cfg: DictConfig, changed: Sequence[resuming.Change] = (), *, sweeping: bool = False
) -> dict[str, Any]:
    """Resume a run from its last checkpoint, or from the previous one if that is damaged."""
    cfg = hydra_config.with_run_dir(cfg, run_dir)
    hydra_config.check(cfg)
    with _alone_in(run_dir):
        checkpoint, content = checkpoints.last_good(run_dir)
        _refuse_other_model(checkpoint, content, cfg, run_dir, changed)
        told = [*changed, *resuming.recorded_freely(runs.RunFolder(run_dir).config, cfg)]
        run = assemble(cfg, run_dir, Beginning(run_dir, cfg, told, Rewind(run_dir, content)))
        _refuse_unfit(checkpoint, content, run)
        resuming.refuse_in_an_epoch(changed, content, checkpoint)
        if sweeping:
            sweeps.refuse_own_ranks(run.trainer)
        ranks.refuse_machines_without_launcher(run.trainer)
        if is_rank_zero() and checkpoint.stem != checkpoints.RESUMABLE[0]:
            step = content["global_step"]
            log.warning("warning     last.ckpt is damaged or missing: resuming from %s, step %s", checkpoint.name, step)
        return _run(run, checkpoint)


def _refuse_other_model(
    checkpoint: Path, content: dict[str, Any], cfg: DictConfig, run_dir: Path, changed: Sequence[resuming.Change]
) -> None:
    """Raise RunError if a checkpoint's model differs from the config's, without allocating memory for the model."""
    name, settings = str(content["model_class"]).rpartition(".")[2], content["hyper_parameters"]
    forced = {change.key for change in changed} | {change["key"] for change in resuming.recorded(run_dir)}
    resuming.refuse_other_model(checkpoint, cfg, name, settings, forced)
    model = make_on_meta_device(cfg, resuming.image_shape(checkpoint, cfg, settings))
    if model is not None:
        weights = content["state_dict"]
        resuming.refuse_other_weights(checkpoint, type(model).__name__, model.state_dict(), weights, changed)


def _refuse_unfit(checkpoint: Path, content: dict[str, Any], run: Training) -> None:
    """Raise RunError unless the training state in a checkpoint has the structure that this run would save."""
    loops = {name: getattr(run.trainer, name).state_dict() for name in LOOPS}
    callbacks: list[L.Callback] = run.trainer.callbacks  # type: ignore[attr-defined]
    kept = [each for each in callbacks if each.state_key in content["callbacks"] or isinstance(each, Cost | Resuming)]
    states = {callback.state_key: callback.state_dict() for callback in kept}
    checkpoints.refuse_unfit(checkpoint, content, {"loops": loops, "callbacks": states, **run.model.example_states()})


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
        if is_rank_zero():
            console.show_header(run.cfg, run.model, run.datamodule)
        L.seed_everything(run.cfg.seed, workers=True, verbose=False)
        try:
            lost = partial(run_summary.summarise_lost, run)
            with ranks.watching(run.trainer, lost, lambda: run.stopping.exit_code, dismiss_process_observer):
                with cheap_cuda_checks(run.trainer.strategy.root_device):
                    run.trainer.fit(run.model, datamodule=run.datamodule, ckpt_path=checkpoint, weights_only=True)
                _refuse_untrained(run.trainer)
                return run_summary.summarise(run, "finished") if run.trainer.fast_dev_run else run_summary.evaluate(run)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt) as end:  # Lightning turns KeyboardInterrupt into SystemExit
            run_summary.summarise_if_begun(run, "interrupted")
            if not run.trainer.is_global_zero:
                raise SystemExit(0) from None  # otherwise Lightning would kill rank 0 before it has finished
            console.show_interrupted(run.run_dir)
            raise SystemExit(end.code if isinstance(end, Stopped) else 130) from None
        except BaseException as error:
            explained = _explained(error, run, checkpoint)
            run_summary.summarise_if_begun(run, "failed", error=str(explained) or type(explained).__name__)
            if explained is error:
                raise
            raise explained from error


def _refuse_untrained(trainer: L.Trainer) -> None:
    """Raise ConfigError if no step was taken: the record would describe random weights."""
    if not trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        raise ConfigError(
            "no step was trained: the settings of trainer and data end training before its first step; change them"
        )


def _explained(error: BaseException, run: Training, checkpoint: Path | None) -> BaseException:
    """The error to raise: one with a remedy for disk errors and invalid checkpoints, else the same."""
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
    """Lock the run folder; rank 0 does so for all ranks."""
    with ExitStack() as stack:
        if is_rank_zero():
            stack.enter_context(locks.held(run_dir))
        yield
