"""Creates the parts of a run from its config: data, model, callbacks, loggers and trainer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.utils import get_class, instantiate
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig, OmegaConf

from vaezoo import runs
from vaezoo.config.automatic import AUTO
from vaezoo.config.errors import ConfigError
from vaezoo.config.shapes import is_table
from vaezoo.data import ImageDataModule
from vaezoo.distributed import ranks, threads
from vaezoo.distributed.rank_zero import is_rank_zero
from vaezoo.evaluation.cost import flops_of_step
from vaezoo.models import Autoencoder
from vaezoo.runs import resuming
from vaezoo.training import fsdp, trackers
from vaezoo.training.callbacks import Cost, ProgressBar, RandomState, Record, Resuming, Stopping
from vaezoo.training.callbacks.record import Rewind
from vaezoo.training.lightning_internals import refuse_unknown_version
from vaezoo.training.quiet import quieten


@dataclass
class Training:
    """The parts of a run, ready to train."""

    cfg: DictConfig
    run_dir: Path
    datamodule: ImageDataModule
    model: Autoencoder
    trainer: L.Trainer
    cost: Cost
    stopping: Stopping
    beginning: "Beginning"


class Beginning(L.Callback):
    """Records that a run starts or resumes, and its config: at once, or when a resumed training has started.

    A resume that fails before therefore leaves the run unchanged.
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
        """Write the config and its changes, and truncate the record to the checkpoint's step. Rank 0 only; once."""
        if not self.begun and is_rank_zero():
            if self.rewind is not None:
                runs.tidy(self.run_dir)
                resuming.record(self.run_dir, self.rewind.step, self.changed)
            runs.start(self.run_dir, self.cfg)
            if self.rewind is not None:
                self.rewind.apply()
        self.begun = True


def assemble(cfg: DictConfig, run_dir: Path, beginning: Beginning) -> Training:
    """Create all parts of a run.

    Raises ConfigError or DataError for invalid settings or unreadable images, before anything is written.
    """
    quieten()
    ranks.choose_devices(cfg.trainer)
    datamodule = made_data(cfg.data)
    keep_shape(cfg, datamodule)
    keep_classes(cfg, datamodule)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    model = made_model(cfg.model, datamodule.image_shape)
    model.stepping = cfg.stepping
    if cfg.compile:
        model.compile_losses(mode=None if cfg.compile is True else cfg.compile)

    cost, stopping, resuming_callbacks = Cost(), Stopping(), [Resuming(), RandomState(), Record()]
    callbacks = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    bar = [ProgressBar()] if cfg.trainer.enable_progress_bar else []
    saved = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer = instantiate(
        cfg.trainer,
        **({} if saved else {"enable_checkpointing": False}),  # otherwise Lightning adds a checkpoint callback
        default_root_dir=str(run_dir),
        logger=[instantiate(node) for node in cfg.logger.values() if node is not None],
        # beginning before cost, which should not include the seconds that opening trackers takes
        callbacks=[*bar, *resuming_callbacks, beginning, cost, *callbacks, stopping],
    )
    refuse_unknown_version(trainer)
    fsdp.check(trainer, model, compiled=bool(cfg.compile))
    ranks.check(trainer, {name: getattr(datamodule, name) for name in ("batch_size", "eval_batch_size")})
    if is_rank_zero():  # to report unreadable images before anything is written; other ranks wait in Lightning
        datamodule.prepare_data()
        datamodule.setup("fit")
        datamodule.train_dataloader()
        keep_range(cfg, datamodule)
        _refuse_missing_labels(model, datamodule)
    cfg.threads = choose_threads(cfg.get("threads", AUTO), model, trainer, datamodule.batch_size)
    return Training(cfg, run_dir, datamodule, model, trainer, cost, stopping, beginning)


def _refuse_missing_labels(model: Autoencoder, datamodule: ImageDataModule) -> None:
    """ConfigError if a model wants labels and the data have none, or not those that a conditional model knows."""
    if model.wants_labels and int(datamodule.labels("train")[:1].min()) < 0:
        raise ConfigError(_lacking(type(model).__name__, datamodule))
    if not model.is_conditional:
        return
    if datamodule.classes is None:
        raise ConfigError(_lacking(type(model).__name__, datamodule))
    known = int(model.hparams["classes"])
    if datamodule.classes > known:
        raise ConfigError(
            f"model.classes={known} is too few for {datamodule.name}, which has {datamodule.classes} labels; set"
            " model.classes=null to take their number from the data"
        )


def _lacking(model: str, datamodule: ImageDataModule) -> str:
    """Why a model cannot have the labels of these data, in one sentence."""
    if count := len(datamodule.factors):
        return (
            f"{model} needs one label for each image, and {datamodule.name} has {count}; choose data with one, such as"
            " a folder with one subfolder for each class, or another model"
        )
    return (
        f"{model} needs a label for each image, and {datamodule.name} has none; choose data with labels, such as a"
        " folder with one subfolder for each class, or another model"
    )


def keep_classes(cfg: DictConfig, datamodule: ImageDataModule) -> None:
    """Replace model.classes=null of a model that wants labels by their number in the data, which makes its size.

    ConfigError unless each image has one label. Reads the data, which other ranks than 0 must find downloaded.
    """
    cls = get_class(cfg.model._target_)
    if not getattr(cls, "is_conditional", False) or cfg.model.get("classes") is not None:
        return
    if is_rank_zero():
        datamodule.prepare_data()
    if datamodule.classes is None:
        raise ConfigError(_lacking(cls.__name__, datamodule))
    cfg.model.classes = datamodule.classes


def made_model(settings: DictConfig, image_shape: Sequence[int], *, classes: int | None = None) -> Autoencoder:
    """Create the model for images of shape (C, H, W), with the pretrained weights of its objective.

    ConfigError if it is not an ``Autoencoder``, or without these weights.

    ``classes`` is the number of labels for a model whose settings leave it open.
    """
    given = {"classes": classes} if classes is not None and settings.get("classes", 0) is None else {}
    model = instantiate(settings, image_shape=list(image_shape), **given)
    if not isinstance(model, Autoencoder):
        raise ConfigError(f"model._target_ must be a subclass of vaezoo.Autoencoder, got {settings._target_}")
    model.read_weights()
    if model.critics:
        model.example_states()  # creates the optimiser, which may not have the settings of the critic's group
    return model


def made_data(settings: DictConfig) -> ImageDataModule:
    """Create the data module; ConfigError if it is not an ``ImageDataModule``."""
    datamodule = instantiate(settings)
    if not isinstance(datamodule, ImageDataModule):
        raise ConfigError(
            f"data._target_ must be vaezoo.data.ImageDataModule or a subclass, got {settings._target_}; other data"
            " classes can be trained on from Python, see docs/use/python.md"
        )
    return datamodule


def choose_threads(setting: Any, model: Autoencoder, trainer: L.Trainer, batch_size: int) -> int:
    """Threads per process; ``batch_size`` is over all devices. See ``threads.choose``."""
    if trainer.strategy.root_device.type != "cpu":
        return threads.choose(setting, math.inf, trainer.num_devices)
    images_per_rank = -(-batch_size // trainer.world_size)
    return threads.choose(setting, flops_of_step(model, images_per_rank), trainer.num_devices)


def keep_shape(cfg: DictConfig, datamodule: ImageDataModule) -> None:
    """Replace data.image_size=null and data.channels=null in the config by those of the images."""
    channels, *sides = datamodule.image_shape
    if is_table(datamodule.image_shape):
        return
    if cfg.data.get("image_size", 0) is None:
        cfg.data.image_size = sides[0] if sides[0] == sides[1] else sides
    if cfg.data.get("channels", 0) is None:
        cfg.data.channels = channels


def keep_range(cfg: DictConfig, datamodule: ImageDataModule) -> None:
    """Replace range=auto in the config by the chosen levels, and the mean and std of a table by those found.

    Later readers of the run thus see the same images or rows.
    """
    if cfg.data.get("range") == "auto":
        cfg.data.range = datamodule.range
    if datamodule.standardization is not None:
        for name, values in datamodule.standardization.as_settings().items():
            cfg.data[name] = values
