"""Figures of the latent space during training: KL over time and a map of the codes."""

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaezoo import figures, metrics
from vaezoo.config.shapes import is_table
from vaezoo.config.validation import at_least, within
from vaezoo.figures import Labels, Plane, Prior, mosaics, planes
from vaezoo.figures.planes import Axes2, Limits
from vaezoo.training.callbacks.pictures import (
    Codes,
    Picture,
    codes_of,
    decode,
    examples,
    label_name,
    validates_training,
)

PRIOR_DRAWS = 300
"""Draws of a prior that is no Gaussian."""
SIGMAS = 2
"""Standard deviations at which ellipses are drawn."""
MOST_COLUMNS = 256
"""Maximum columns of decoded images in the latent plane."""
TILE = 32
"""Maximum pixels of the longer side of an image in the decoded plane."""


class LatentKL(Picture):
    """Heat map of the KL of each dimension or level over training, with the number of active dimensions.

    There is none without such a KL. Every validation adds a column. The history is saved in checkpoints: 9 bytes per
    dimension and validation.
    """

    name = "latent_kl"
    of_table = True
    shows_images = False

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        self.history: dict[str, list[Any]] = {"steps": [], "kl": [], "active": []}

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: the model computes its statistics in the same hook, which Lightning calls after the callbacks'."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if validates_training(trainer):
            self.remember(trainer.global_step, pl_module.latent_statistics)  # type: ignore[arg-type]
        self.publish_if_due(trainer, pl_module)

    def remember(self, step: int, statistics: dict[str, Tensor]) -> None:
        """Add the statistics of a validation to the history, once per step."""
        if "kl" not in statistics or step in self.history["steps"][-1:]:
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
        subject = self.subject(model, data)
        return figures.latent_kl(self.history["steps"], kl, self.history["active"], subject, model.latent_dim)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **{name: list(values) for name, values in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.history = {name: list(state_dict[name]) for name in self.history}


class LatentMap(Picture):
    """Codes of ``count`` validation images on their first two principal axes, with at most ``ellipses`` posteriors.

    The wider the posteriors are, the fewer are drawn, so that they do not hide the points. A two-dimensional code is
    shown in its own plane, beside decoded images of the same square in ``grid`` columns; a one-dimensional code as a
    histogram over a row of ``grid`` decoded images. A conditional model decodes them given the
    label of the first image.
    """

    name = "latent_map"
    of_table = True

    def __init__(self, *, count: int = 2000, ellipses: int = 100, grid: int = 20, **shared: Any) -> None:
        super().__init__(**shared)
        for value, least, key in ((count, 2, "count"), (ellipses, 0, "ellipses")):
            at_least(value, least, f"callbacks.latent_map.{key}")
        within(grid, 2, MOST_COLUMNS, "callbacks.latent_map.grid")
        self.count, self.ellipses, self.grid = count, ellipses, grid

    def figure(self, model: Any, data: Any) -> Figure | None:
        x, y = examples(model, data, self.count)
        codes, seen = codes_of(model, x, y), model.given(y[0])
        labels = labels_of(y, getattr(data, "factors", ()))
        line = codes.mean.shape[1] == 1
        place, draw = (self._line, figures.latent_line) if line else (self._plane, figures.latent_map)
        plane = place(model, seen, codes, labels)
        if model.is_conditional and plane.decoded is not None:
            plane.note += f"; decoded given the label {label_name(int(y[0]), data)}"
        return draw(plane, self.subject(model, data))

    def _plane(self, model: Any, seen: Any, codes: Codes, labels: Labels) -> Plane:
        axes = planes.principal_axes(codes.mean)
        points, prior = axes.project(codes.mean), prior_in_plane(model, axes)
        shapes, note, reach = np.empty((0, 3)), f"{len(codes.mean)} images", 0.0
        if codes.variance.any():
            shapes = planes.ellipses(codes.variance[: self.ellipses], axes, SIGMAS)
            reach = float(shapes[:, :2].max(initial=0)) / 2
            shapes = planes.uncrowded(shapes, points)
            note += f"; {SIGMAS}σ ellipses of {len(shapes)} posteriors"
        if prior is not None:
            note += f"; dashed: {SIGMAS}σ of the prior" if prior.draws is None else "; crosses: draws of the prior"
        where = limits_around(points, reach, prior)
        decoded = decoded_plane(seen, where, self.grid) if codes.mean.shape[1] == 2 else None
        return Plane(points.numpy(), where, axis_names(axes), labels, prior, decoded, note, ellipses=shapes)

    def _line(self, model: Any, seen: Any, codes: Codes, labels: Labels) -> Plane:
        prior = model.prior()
        where = planes.limits(torch.cat([codes.mean, *_bulk_on_line(prior)]))
        decoded = decoded_plane(seen, where, self.grid, dimensions=1)
        axis = torch.linspace(where.left, where.right, 200)
        density = None if prior is None else prior.log_prob(axis[:, None].to(model.device)).exp().cpu().numpy()
        note = f"{len(codes.mean)} images" + ("" if prior is None else "; dashed: density of the prior")
        return Plane(codes.mean.numpy(), where, ("z0", ""), labels, None, decoded, note, density)


def prior_in_plane(model: Any, axes: Axes2) -> Prior | None:
    """A model's prior in a plane: ``SIGMAS`` standard deviations of a Gaussian, or draws of any other."""
    prior = model.prior()
    if prior is None:
        return None
    moments = prior.moments()
    if moments is None:
        draws = prior.sample(PRIOR_DRAWS, torch.Generator().manual_seed(0)).cpu()
        return Prior(draws=axes.project(draws.to(axes.centre)).numpy())
    mean, variance = (moment.cpu().to(axes.centre) for moment in moments)
    (x, y), (width, height, angle) = axes.project(mean).tolist(), planes.ellipses(variance[None], axes, SIGMAS)[0]
    return Prior((x, y, float(width), float(height), float(angle)))


def limits_around(points: Tensor, reach: float, prior: Prior | None) -> Limits:
    """Limits of a plane with points (N, 2), a margin of ``reach`` around them, and a prior."""
    if prior is not None and prior.draws is not None:
        points = torch.cat([points, torch.from_numpy(prior.draws)])
    if prior is None or prior.ellipse is None:
        return planes.limits(points, reach)
    x, y, width, height, _ = prior.ellipse
    return planes.limits(points, reach, points.new_tensor([x, y]), max(width, height) / (2 * SIGMAS))


def _bulk_on_line(prior: Any) -> list[Tensor]:
    """Codes (N, 1) between which most of a one-dimensional prior lies; none without a prior."""
    if prior is None:
        return []
    moments = prior.moments()
    if moments is None:
        return [prior.sample(PRIOR_DRAWS, torch.Generator().manual_seed(0)).cpu().double()]
    mean, variance = (moment.double().cpu() for moment in moments)
    spread = planes.PRIOR_BULK * variance.sqrt()
    return [torch.stack([mean - spread, mean + spread])]


def decoded_plane(model: Any, where: Limits, columns: int, dimensions: int = 2) -> np.ndarray | None:
    """Decoded images of a grid of codes over the square ``where``, as one array of pixels (H, W, 3); None of a table.

    The number of rows keeps the grid square; one row for a one-dimensional code. Images larger than ``TILE`` are
    downsampled by averaging.
    """
    if is_table(model.image_shape):
        return None
    _, height, width = model.image_shape
    rows = max(1, round(columns * width / height)) if dimensions == 2 else 1
    codes = planes.grid_codes(where, columns, rows)[:, :dimensions]
    tiles = [mosaics.shown(decode(model, part), smallest=1, largest=TILE) for part in codes.split(64)]
    return planes.seamless(np.concatenate(tiles), columns)


def axis_names(axes: Axes2) -> tuple[str, str]:
    """Names of the two axes of a map, with the fraction of the variance along each."""
    kind = ("z0", "z1") if len(axes.centre) == 2 else ("first principal axis", "second principal axis")
    first, second = (f"{name} ({share:.0%} of the variance)" for name, share in zip(kind, axes.shares, strict=True))
    return first, second


def labels_of(labels: Tensor, factors: Any) -> Labels:
    """One label per image from labels (B,) or (B, F): the first factor that varies."""
    columns = labels.cpu().reshape(len(labels), -1)
    varying = (columns != columns[:1]).any(0).nonzero().flatten().tolist()
    column = varying[0] if varying else 0
    if column >= len(factors):
        return Labels(columns[:, column].numpy())
    return Labels(columns[:, column].numpy(), tuple(factors[column].values), factors[column].name)
