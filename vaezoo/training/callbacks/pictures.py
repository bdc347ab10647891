"""Base class of the figures drawn during training: when they are drawn and where they are written."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

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
from vaezoo.config.shapes import is_table
from vaezoo.config.validation import at_least, check_picture
from vaezoo.figures import raster, write_vector
from vaezoo.figures.canvas import DPI
from vaezoo.figures.mosaics import colours_shown
from vaezoo.runs.files import replacing
from vaezoo.training.fsdp import gathered
from vaezoo.training.trackers import Tracker

CHUNK = 256
"""Images per forward pass."""
STEPS_APART = 2500
"""Optimiser steps between figures unless ``every_n_epochs`` is set: drawing all six takes as long as 150 to 250 steps
of a small network, and an epoch may have 40 steps or 40,000."""
MOST_TILES = 4096
"""Maximum images, rows, columns or steps of one figure; more would not fit on a screen and take gigabytes of memory."""
LONGEST_NAME = 40
"""Maximum characters of a data set's name in a title; the name may be that of a folder."""
COMPRESSION = 3
"""Compression level of PNG files: a third faster than zlib's default of 6, for a tenth more bytes."""


class Picture(L.Callback):
    """Draws a figure regularly and at the end of training, for the run folder and for loggers that accept images.

    It is written to ``RUN_DIR/figures/NAME/step=00001234.png`` and logged as ``figures/NAME``. The title names model,
    data set and step. Training is not affected: random states and modes are restored, no gradients are kept, and
    drawing is not collective. Any error while drawing, writing or logging becomes a warning.

    It is drawn in ``on_validation_epoch_end``, while a weight-averaging callback later in the list still has its
    averages in the model.

    Args:
        every_n_epochs: epochs between figures, drawn at the first validation due; 0 draws only at the end, None every
            ``STEPS_APART`` optimiser steps.
        dpi: resolution of the PNG; at 100, an image's pixel is a pixel of the PNG, and journals ask for 300.
        format: ``png``; ``pdf`` and ``svg`` write such a file in addition to the PNG.

    Raises:
        ConfigError: a setting is out of range, or the datamodule has no ``examples`` (when training starts).
    """

    name: ClassVar[str]
    shows_images: ClassVar[bool] = True
    """Whether the title says how images of other numbers of channels are shown."""
    of_table: ClassVar[bool] = False
    """Whether the figure is drawn of rows of a table too, which are no images."""
    of = "validation images"
    """What ``data.examples(count, "val")`` has, in titles."""
    seconds_of_drawing: float
    """Seconds spent on drawing and writing in this process."""

    def __init__(self, *, every_n_epochs: int | None = None, dpi: int = DPI, format: str = "png") -> None:
        at_least(every_n_epochs or 0, 0, f"callbacks.{self.name}.every_n_epochs")
        check_picture(f"callbacks.{self.name}", dpi, format)
        self.every_n_epochs, self.dpi, self.format = every_n_epochs, dpi, format
        self._drawn: Figure | None = None
        self.seconds_of_drawing = 0.0
        self._validated_at = {"epochs": 0, "steps": 0}
        self._step = -1

    def figure(self, model: Any, data: Any) -> Figure | None:
        """The figure, or None if there is nothing to show; FloatingPointError for non-finite values."""
        raise NotImplementedError

    def draw(self, model: Any, data: Any) -> Figure | None:
        """The figure at the resolution ``dpi``, or None if there is nothing to show."""
        drawable = self.of_table or not is_table(model.image_shape)
        self._drawn = self.figure(model, data) if drawable else None
        if self._drawn is not None:
            self._drawn.set_dpi(self.dpi)
        return self._drawn

    def subject(self, model: Any, data: Any) -> str:
        """Model, data set, during training the step, and which channels are shown, for the title."""
        name = str(data.describe()["name"] if hasattr(data, "describe") else type(data).__name__)
        name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        step = f", step {self._step:,}" if self._step >= 0 else ""
        colours = colours_shown(model.image_shape[0]) if self.shows_images else ""
        return f"{type(model).__name__} on {name}{step}{f' ({colours})' if colours else ''}"

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
        """Call ``publish`` if this validation is part of training and the figure is due."""
        now = {"epochs": trainer.current_epoch + 1, "steps": trainer.global_step}
        unit, every = ("steps", STEPS_APART) if self.every_n_epochs is None else ("epochs", self.every_n_epochs)
        if validates_training(trainer):
            before, self._validated_at = self._validated_at, now
            if every and now[unit] // every > before[unit] // every:
                self.publish(trainer, model)

    def publish(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Draw, write and log the figure on rank zero, once per step. Collective if weights are sharded."""
        step = trainer.global_step
        if step == self._step or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._step = step
        started = time.perf_counter()
        with gathered(model):  # not collective unless weights are sharded
            if trainer.is_global_zero:
                self._publish(trainer, model)
                self._write_vector(trainer)
        self.seconds_of_drawing += time.perf_counter() - started

    def _publish(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Draw, write and log the figure; any error becomes a warning."""
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
        """Write the last figure as PDF or SVG, if ``format`` asks for it; any error becomes a warning."""
        figure, self._drawn = self._drawn, None
        if figure is None or self.format == "png":
            return
        try:
            with replacing(picture_path(self.name, trainer, self.format)) as new:
                write_vector(figure, new, self.format)
        except Exception as error:  # a plotting library's or a disk's
            warnings.warn(f"no {self.format} of {self.name} at step {self._step}: {error}", stacklevel=2)


def validates_training(trainer: L.Trainer) -> bool:
    """Whether a validation is part of training, not the sanity check or ``trainer.validate``."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; restores random states and the mode of every submodule."""
    modes = [(module, module.training) for module in model.modules()]
    with isolate_rng(), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def write_picture(pixels: np.ndarray, name: str, trainer: L.Trainer) -> None:
    """Write a picture (H, W, 3) uint8 to the run folder and to each logger that accepts images."""
    step, path = trainer.global_step, picture_path(name, trainer, "png")
    with replacing(path) as new:
        Image.fromarray(pixels).save(new, format="png", compress_level=COMPRESSION)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            add_png(logger, f"figures/{name}", path.read_bytes(), pixels.shape, step)
        elif isinstance(logger, Tracker):
            logger.log_picture(f"figures/{name}", pixels, step)
        elif hasattr(logger, "log_image"):  # the method of Lightning's other loggers
            logger.log_image(f"figures/{name}", [pixels], step)


def picture_path(name: str, trainer: L.Trainer, kind: str) -> Path:
    """Path for a picture of the current step; its folder is created."""
    path = Path(trainer.default_root_dir, "figures", name, f"step={trainer.global_step:08d}.{kind}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def add_png(logger: TensorBoardLogger, tag: str, png: bytes, shape: tuple[int, ...], step: int) -> None:
    """Log an encoded PNG of this (height, width, channels) to TensorBoard."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # slow to import, and not every run uses it

    height, width, channels = shape
    image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
    logger.experiment.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


# inputs of figures ---------------------------------------------------------------------------------------------------


def examples(model: Any, data: Any, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` validation images (B, C, H, W) on the model's device, and their labels, (B,) or (B, F)."""
    x, labels = data.examples(count, split="val")
    return x.to(model.device), labels


def label_name(label: int, data: Any) -> str:
    """The name of a label in these data, the number itself if it has none."""
    factors = getattr(data, "factors", ())
    value = factors[0].values[label] if factors and label < len(factors[0].values) else label
    return value if isinstance(value, str) else f"{value:g}"


def given(model: Any, rows: Tensor, labels: Tensor | None = None) -> Iterator[tuple[Any, Tensor]]:
    """Images or codes in chunks, each with the model given its labels, if there are any."""
    for at, part in enumerate(rows.split(CHUNK)):
        yield model if labels is None else model.given(labels[at * CHUNK :][: len(part)]), part


def encode(model: Any, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """Codes in float64 on the CPU: (B, C, H, W) -> (B, D). FloatingPointError if they are not finite."""
    return finite(torch.cat([seen.encode(part) for seen, part in given(model, x, labels)]), "codes").double()


def decode(model: Any, codes: Tensor, labels: Tensor | None = None) -> Tensor:
    """Decoded images on the CPU, of the codes that the model has nearest to these: (B, D) -> (B, C, H, W).

    FloatingPointError if they are not finite.
    """
    codes = codes.float().to(model.device)
    parts = [seen.decode(seen.project(part)) for seen, part in given(model, codes, labels)]
    return finite(torch.cat(parts), "decoded images")


def finite(values: Tensor, what: str) -> Tensor:
    """The values in float32 on the CPU; FloatingPointError, naming ``what``, if they are not all finite."""
    values = values.float().cpu()
    if not torch.isfinite(values).all():
        raise FloatingPointError(f"{what} are not finite")
    return values


class Codes(NamedTuple):
    """Codes of images and what is known of their posteriors, each (B, D), float64, on the CPU."""

    mean: Tensor
    """Codes without noise."""
    variance: Tensor
    """Variances of the posteriors; 0 without a posterior, or one of dependent dimensions."""
    kl: Tensor | None
    """KL divergence of each dimension in nats; None if it is not a sum over dimensions."""
    has_posterior: bool


def codes_of(model: Any, x: Tensor, labels: Tensor | None = None) -> Codes:
    """The codes of images (B, C, H, W); FloatingPointError if they are not finite."""
    models = [seen for seen, _ in given(model, x, labels)]
    found = [seen.posterior(part) for seen, part in given(model, x, labels)]
    if found[0] is None or found[0].moments() is None:
        codes = encode(model, x, labels)
        return Codes(codes, torch.zeros_like(codes), None, found[0] is not None)
    moments = [q.moments() for q in found]
    mean, variance = ([part[side] for part in moments] for side in (0, 1))
    std = finite(torch.exp(0.5 * torch.cat(variance)), "posteriors").double()
    kl = None
    if found[0].kl_by(models[0].prior()) == "dimension":
        generator = torch.Generator(x.device).manual_seed(0)
        parts = [q.kl(seen.prior(), q.draw(1, generator)) for seen, q in zip(models, found, strict=True)]
        kl = finite(torch.cat(parts), "posteriors").double()
    return Codes(finite(torch.cat(mean), "posteriors").double(), std.square(), kl, has_posterior=True)
