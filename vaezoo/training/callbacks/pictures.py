"""Pictures while training: when they are drawn and where they go. They know no variant of a model."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaezoo.config.errors import ConfigError, VaezooError
from vaezoo.config.validation import at_least, check_picture
from vaezoo.distributed.fsdp import gathered
from vaezoo.figures import raster, write_vector
from vaezoo.figures.canvas import DPI
from vaezoo.runs.files import replacing
from vaezoo.training.trackers import Tracker

CHUNK = 256
"""Images that go through a model at once."""
STEPS_APART = 2500
"""Optimiser steps from one picture to the next, where no number of epochs is asked for: all six take about as long as
150 to 250 steps of a small network, and an epoch may be 40 steps or 40,000."""
MOST_TILES = 4096
"""Images, rows, columns or steps of one picture: more would be larger than a screen by far, and gigabytes of memory."""
LONGEST_NAME = 40
"""Letters of a data set's name in a title; that of a folder can be as long as it likes."""
COMPRESSION = 3
"""Of PNG files: a third less time than zlib's usual 6, for a tenth more bytes."""


class Picture(L.Callback):
    """Draws a figure now and then and at the end of training, to the run folder and to the loggers that take images.

    It goes to ``RUN_DIR/figures/NAME/step=00001234.png`` and to ``figures/NAME`` of TensorBoard and trackers. Its title
    names model, data set and step. Training does not notice: random states and modes are put back, no gradient is kept,
    and other ranks are asked for nothing. Whatever fails while it is drawn, written or handed to a logger costs a
    warning and this picture, not the training.

    It is drawn at ``on_validation_epoch_end``: a callback that averages weights and comes later in the list still has
    its averages in the model then.

    Args:
        every_n_epochs: epochs from one picture to the next, drawn at the first validation due; 0 draws at the end only,
            None every ``STEPS_APART`` optimiser steps.
        dpi: resolution of the PNG: 100 shows an image's pixels one for one, 300 is what journals ask for.
        format: ``png``; ``pdf`` or ``svg`` writes such a file beside the PNG.
    """

    name: ClassVar[str]
    seconds_of_drawing: float
    """What drawing and writing have taken so far in this process."""

    def __init__(self, *, every_n_epochs: int | None = None, dpi: int = DPI, format: str = "png") -> None:
        at_least(every_n_epochs or 0, 0, f"callbacks.{self.name}.every_n_epochs")
        check_picture(f"callbacks.{self.name}", dpi, format)
        self.every_n_epochs, self.dpi, self.format = every_n_epochs, dpi, format
        self._drawn: Figure | None = None
        self.seconds_of_drawing = 0.0
        self._validated_at = {"epochs": 0, "steps": 0}
        self._step = -1

    def figure(self, model: Any, data: Any) -> Figure | None:
        """The figure, or None where there is nothing to show; FloatingPointError on values that are not finite."""
        raise NotImplementedError

    def draw(self, model: Any, data: Any) -> Figure | None:
        """The same at the resolution that was asked for."""
        self._drawn = self.figure(model, data)
        if self._drawn is not None:
            self._drawn.set_dpi(self.dpi)
        return self._drawn

    def subject(self, model: Any, data: Any) -> str:
        """What a title says of where a picture is from: model, data set and, while training, the step."""
        name = str(data.describe()["name"] if hasattr(data, "describe") else type(data).__name__)
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        step = f", step {self._step:,}" if self._step >= 0 else ""
        return f"{type(model).__name__} on {name}{step}"

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and not hasattr(trainer.datamodule, "examples"):  # type: ignore[attr-defined]
            raise ConfigError(f"callbacks.{self.name} needs a datamodule with examples(count, split)")
        if stage == "fit":
            self._validated_at, self._step = {"epochs": 0, "steps": 0}, -1

    def state_dict(self) -> dict[str, Any]:
        return {"validated_at": dict(self._validated_at), "drawn_at": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated_at, self._step = dict(state_dict["validated_at"]), state_dict.get("drawn_at", -1)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.publish_if_due(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.publish(trainer, pl_module)

    def publish_if_due(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Publish if this is a validation within training and as many epochs or steps went by."""
        now = {"epochs": trainer.current_epoch + 1, "steps": trainer.global_step}
        unit, every = ("steps", STEPS_APART) if self.every_n_epochs is None else ("epochs", self.every_n_epochs)
        if validates_training(trainer):
            before, self._validated_at = self._validated_at, now
            if every and now[unit] // every > before[unit] // every:
                self.publish(trainer, model)

    def publish(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Draw and write, once a step and on the first rank only."""
        step = trainer.global_step
        if step == self._step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._step = step
        started = time.perf_counter()
        with gathered(model):  # which asks nothing of the other ranks unless the weights lie there
            if trainer.is_global_zero:
                self._publish(trainer, model)
                self._write_vector(trainer)
        self.seconds_of_drawing += time.perf_counter() - started

    def _publish(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Draw and write; whatever goes wrong is told, and costs this picture only."""
        try:
            with undisturbed(model):
                figure = self.draw(model, trainer.datamodule)  # type: ignore[attr-defined]
                if figure is not None:
                    write_picture(raster(figure), self.name, trainer)
        except Exception as error:  # a model's, a plotting library's, a disk's or a logger's
            reason = " ".join(str(error).split())
            if not isinstance(error, FloatingPointError | VaezooError):
                reason = f"{type(error).__name__}: {reason}".rstrip(": ")
            warnings.warn(f"no picture of {self.name} at step {trainer.global_step}: {reason}", stacklevel=2)

    def _write_vector(self, trainer: L.Trainer) -> None:
        """Write what was just drawn as PDF or SVG, if that was asked for; a failure costs this file only."""
        figure, self._drawn = self._drawn, None
        if figure is None or self.format == "png":
            return
        try:
            with replacing(picture_path(self.name, trainer, self.format)) as new:
                write_vector(figure, new, self.format)
        except Exception as error:  # a plotting library's or a disk's
            warnings.warn(f"no {self.format} of {self.name} at step {self._step}: {error}", stacklevel=2)


def validates_training(trainer: L.Trainer) -> bool:
    """Whether a validation is part of training: neither the sanity check nor ``trainer.validate``."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; random states and every submodule's mode are put back."""
    modes = [(module, module.training) for module in model.modules()]
    with isolate_rng(), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def write_picture(pixels: np.ndarray, name: str, trainer: L.Trainer) -> None:
    """Write a picture (H, W, 3) uint8 to the run folder and to each logger that takes images.

    TensorBoard gets the very same file.
    """
    step, path = trainer.global_step, picture_path(name, trainer, "png")
    with replacing(path) as new:
        Image.fromarray(pixels).save(new, format="png", compress_level=COMPRESSION)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            add_png(logger, f"figures/{name}", path.read_bytes(), pixels.shape, step)
        elif isinstance(logger, Tracker):
            logger.log_picture(f"figures/{name}", pixels, step)
        elif hasattr(logger, "log_image"):  # as other loggers of Lightning call it
            logger.log_image(f"figures/{name}", [pixels], step)


def picture_path(name: str, trainer: L.Trainer, kind: str) -> Path:
    """Where a picture of the present step is written; its folder is made."""
    path = Path(trainer.default_root_dir, "figures", name, f"step={trainer.global_step:08d}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def add_png(logger: TensorBoardLogger, tag: str, png: bytes, shape: tuple[int, ...], step: int) -> None:
    """Give TensorBoard an encoded image of this (height, width, channels)."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # for those who use it

    height, width, channels = shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
    logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


# what pictures ask of a model ----------------------------------------------------------------------------------------


def examples(model: Any, data: Any, count: int) -> tuple[Tensor, Tensor]:
    """The first validation images on the model's device, and their labels: (B, C, H, W) and (B,) or (B, F)."""
    x, labels = data.examples(count, split="val")
    return x.to(model.device), labels


def encode(model: Any, x: Tensor) -> Tensor:
    """The code of each image, in double precision on the CPU: (B, C, H, W) -> (B, D)."""
    return finite(torch.cat([model.encode(part) for part in x.split(CHUNK)]), "codes").double()


def decode(model: Any, codes: Tensor) -> Tensor:
    """Pixels of each code, on the CPU: (B, D) -> (B, C, H, W)."""
    codes = codes.float().to(model.device)
    return finite(torch.cat([model.decode(part) for part in codes.split(CHUNK)]), "decoded images")


def finite(values: Tensor, what: str) -> Tensor:
    """The same values on the CPU; FloatingPointError if one of them is infinite or not a number."""
    values = values.float().cpu()
    if not torch.isfinite(values).all():
        raise FloatingPointError(f"{what} are not finite")
    return values


def posteriors(model: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Codes, posterior variances and KL in nats, each (B, D); without a posterior 0 variances and no KL."""
    found = [model.posterior(part) for part in x.split(CHUNK)]
    if found[0] is None:
        codes = encode(model, x)
        return codes, torch.zeros_like(codes), None
    mean, std, kl = (
        finite(torch.cat(parts), "posteriors").double()
        for parts in ([q.mean for q in found], [q.std for q in found], [q.kl() for q in found])
    )
    return mean, std.square(), kl
