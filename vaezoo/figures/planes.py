"""Geometry of latent planes: principal axes, limits, grids and projected Gaussians."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PRIOR_BULK = 3.0
"""A plane shows at least this many standard deviations of the prior."""
COVERED = 0.5
"""Fraction of the points' area that ellipses may cover in total."""
FEWEST = 5
"""Minimum number of ellipses, however wide they are."""


class Axes2(NamedTuple):
    """Two directions (D, 2) through ``centre`` (D,), and the fraction of the codes' variance along each, (2,)."""

    centre: Tensor
    directions: Tensor
    shares: Tensor

    def project(self, codes: Tensor) -> Tensor:
        """Coordinates in the plane: (N, D) -> (N, 2)."""
        return (codes - self.centre) @ self.directions


class Limits(NamedTuple):
    """Limits of a square plot: equal scales preserve distances and the shape of ellipses."""

    left: float
    right: float
    bottom: float
    top: float


def principal_axes(codes: Tensor) -> Axes2:
    """The two directions of largest variance of codes (N, D), D >= 2; for D = 2, the latent axes themselves.

    The largest component of each direction is positive, so that successive figures are not flipped.
    """
    variance = codes.var(0, correction=0)
    if codes.shape[1] == 2:
        return Axes2(torch.zeros_like(variance), torch.eye(2, dtype=codes.dtype), _shares(variance, variance))
    centre = codes.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(codes.T, correction=0))
    directions = vectors.flip(1)[:, :2]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return Axes2(centre, directions * torch.where(largest < 0, -1.0, 1.0), _shares(values.flip(0)[:2], variance))


def _shares(values: Tensor, variance: Tensor) -> Tensor:
    return values.clamp(min=0) / variance.sum().clamp(min=torch.finfo(variance.dtype).tiny)


def limits(points: Tensor, reach: float = 0.0, prior_centre: Tensor | None = None, prior_std: float = 1.0) -> Limits:
    """A square around all points (N, 2) with a margin of ``reach``, and around the prior if its centre (2,) is given.

    For points (N, 1) both axes are the same.
    """
    low, high = points.amin(0) - reach, points.amax(0) + reach
    if prior_centre is not None:
        low = torch.minimum(low, prior_centre - PRIOR_BULK * prior_std)
        high = torch.maximum(high, prior_centre + PRIOR_BULK * prior_std)
    middle = (low + high) / 2
    half = max(float((high - low).max()) / 2 * 1.04, 1e-3)
    x, y = middle.expand(2).tolist()
    return Limits(x - half, x + half, y - half, y + half)


def grid_codes(where: Limits, columns: int, rows: int) -> Tensor:
    """Codes at the centres of a grid's cells, row by row from the upper left: (rows * columns, 2)."""
    x = where.left + (torch.arange(columns) + 0.5) / columns * (where.right - where.left)
    y = where.top - (torch.arange(rows) + 0.5) / rows * (where.top - where.bottom)
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)


def ellipses(variance: Tensor, axes: Axes2, sigmas: float) -> np.ndarray:
    """Diagonal Gaussians projected onto the plane: variances (N, D) -> width, height, angle in degrees (N, 3)."""
    covariance = torch.einsum("nd,di,dj->nij", variance, axes.directions, axes.directions)
    values, vectors = torch.linalg.eigh(covariance)
    sides = 2 * sigmas * values.clamp(min=0).sqrt()
    angle = torch.rad2deg(torch.atan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    return torch.stack([sides[:, 1], sides[:, 0], angle], dim=1).numpy()


def uncrowded(shapes: np.ndarray, points: Tensor) -> np.ndarray:
    """The first ellipses (M, 3) that together cover at most ``COVERED`` of the square around points (N, 2).

    At least ``FEWEST`` are kept.
    """
    side = float((points.amax(0) - points.amin(0)).max())
    areas = np.pi / 4 * shapes[:, 0] * shapes[:, 1]
    return shapes[: max(FEWEST, int((areas.cumsum() <= COVERED * side**2).sum()))]


def seamless(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (N, H, W, 3) in one array without gaps, row by row: (N / columns * H, columns * W, 3)."""
    count, height, width, channels = tiles.shape
    grid = tiles.reshape(count // columns, columns, height, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, channels)
