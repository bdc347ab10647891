"""Pictures of the latent space while training: KL over time and a map of the codes. They know no variant of a model."""

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaezoo import figures, metrics
from vaezoo.config.validation import at_least, within
from vaezoo.figures import Labels, Plane, Prior, mosaics, planes
from vaezoo.figures.planes import Axes2, Limits
from vaezoo.training.callbacks.pictures import Picture, decode, examples, posteriors, validates_training

SIGMAS = 2
"""Standard deviations at which ellipses are drawn."""
MOST_COLUMNS = 256
"""Of decoded images in the plane, which has as many rows."""
TILE = 32
"""Pixels that the longer side of a picture in the decoded plane has at most."""


class LatentKL(Picture):
    """KL of each dimension over training as a heat map, and the count of active ones; nothing without a posterior.

    Every validation adds a column. The history is part of checkpoints: 9 bytes for each dimension and validation.
    """

    name = "latent_kl"

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        self.history: dict[str, list[Any]] = {"steps": [], "kl": [], "active": []}

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Too early: a model gathers its statistics in its own hook of this name, which comes after the callbacks'."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if validates_training(trainer):
            self.remember(trainer.global_step, pl_module.latent_statistics)  # type: ignore[arg-type]
        self.publish_if_due(trainer, pl_module)

    def remember(self, step: int, statistics: dict[str, Tensor]) -> None:
        """Add the statistics of a validation to the history, once a step."""
        if not statistics or step in self.history["steps"][-1:]:
            return
        self.history["steps"].append(step)
        self.history["kl"].append(statistics["kl"].tolist())
        self.history["active"].append(int(metrics.active_units(statistics["variance"])))

    def figure(self, model: Any, data: Any) -> Figure | None:
        if not self.history["steps"]:
            return None
        kl = np.array(self.history["kl"])
        if not np.isfinite(kl).all():
            raise FloatingPointError("KL is not finite")
        return figures.latent_kl(self.history["steps"], kl, self.history["active"], self.subject(model, data))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **{name: list(values) for name, values in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.history = {name: list(state_dict[name]) for name in self.history}


class LatentMap(Picture):
    """Codes of ``count`` validation images in a plane, with the posteriors of at most ``ellipses`` of them.

    Wide posteriors would hide the points, so the wider they are, the fewer are drawn.

    The plane is that of the first two principal axes. For a two-dimensional code it is the latent plane itself, and
    beside it stands what the decoder makes of ``grid`` columns of places in the same square. A one-dimensional code has
    a histogram over a line of as many.
    """

    name = "latent_map"

    def __init__(self, *, count: int = 2000, ellipses: int = 100, grid: int = 20, **shared: Any) -> None:
        super().__init__(**shared)
        for value, least, key in ((count, 2, "count"), (ellipses, 0, "ellipses")):
            at_least(value, least, f"callbacks.latent_map.{key}")
        within(grid, 2, MOST_COLUMNS, "callbacks.latent_map.grid")
        self.count, self.ellipses, self.grid = count, ellipses, grid

    def figure(self, model: Any, data: Any) -> Figure | None:
        x, y = examples(model, data, self.count)
        codes, variance, kl = posteriors(model, x)
        labels = labels_of(y, getattr(data, "factors", ()))
        place = self._line if codes.shape[1] == 1 else self._plane
        draw = figures.latent_line if codes.shape[1] == 1 else figures.latent_map
        return draw(place(model, codes, variance if kl is not None else None, labels), self.subject(model, data))

    def _plane(self, model: Any, codes: Tensor, variance: Tensor | None, labels: Labels) -> Plane:
        axes = planes.principal_axes(codes)
        points, prior, note, reach, centre = axes.project(codes), None, f"{len(codes)} images", 0.0, None
        if variance is not None:
            shapes = planes.ellipses(variance[: self.ellipses], axes, SIGMAS)
            reach, centre = float(shapes[:, :2].max(initial=0)) / 2, axes.project(torch.zeros_like(axes.centre))
            shapes = planes.uncrowded(shapes, points)
            prior = Prior((float(centre[0]), float(centre[1])), shapes)
            note += f"; {SIGMAS}σ ellipses of {len(shapes)} posteriors; dashed: {SIGMAS}σ of the prior"
        where = planes.limits(points, reach, centre)
        decoded = decoded_plane(model, where, self.grid) if codes.shape[1] == 2 else None
        return Plane(points.numpy(), where, axis_names(axes), labels, prior, decoded, note)

    def _line(self, model: Any, codes: Tensor, variance: Tensor | None, labels: Labels) -> Plane:
        has_prior = variance is not None
        where = planes.limits(codes, prior_centre=torch.zeros(1, dtype=codes.dtype) if has_prior else None)
        decoded = decoded_plane(model, where, self.grid, dimensions=1)
        axis = torch.linspace(where.left, where.right, 200).numpy()
        density = np.exp(-0.5 * axis**2) / np.sqrt(2 * np.pi) if has_prior else None
        note = f"{len(codes)} images" + ("; dashed: density of the prior" if has_prior else "")
        return Plane(codes.numpy(), where, ("z0", ""), labels, None, decoded, note, density)


def decoded_plane(model: Any, where: Limits, columns: int, dimensions: int = 2) -> np.ndarray:
    """What the decoder makes of the square ``where``, in so many columns: one array of pixels (H, W, 3).

    The rows are as many as keep the shape of the images, a single one for a one-dimensional code. Larger images are
    made smaller by averaging.
    """
    _, height, width = model.image_shape
    rows = max(1, round(columns * width / height)) if dimensions == 2 else 1
    codes = planes.grid_codes(where, columns, rows)[:, :dimensions]
    tiles = [mosaics.shown(decode(model, part), smallest=1, largest=TILE) for part in codes.split(64)]
    return planes.seamless(np.concatenate(tiles), columns)


def axis_names(axes: Axes2) -> tuple[str, str]:
    """Names of the two axes of a map, with the share of the variance that each holds."""
    kind = ("z0", "z1") if len(axes.centre) == 2 else ("first principal axis", "second principal axis")
    first, second = (f"{name} ({share:.0%} of the variance)" for name, share in zip(kind, axes.shares, strict=True))
    return first, second


def labels_of(labels: Tensor, factors: Any) -> Labels:
    """Labels (B,) or (B, F) as one value for each image: the first factor that is not the same for all of them."""
    columns = labels.cpu().reshape(len(labels), -1)
    varying = (columns != columns[:1]).any(0).nonzero().flatten().tolist()
    column = varying[0] if varying else 0
    if column >= len(factors):
        return Labels(columns[:, column].numpy())
    return Labels(columns[:, column].numpy(), tuple(factors[column].values), factors[column].name)
