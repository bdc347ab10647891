"""Distances and coverage between two sets of image features (N, F)."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

Array = Tensor | NDArray[Any]

CHUNK = 1024
"""Rows of a pairwise matrix in memory at once."""


class Estimate(NamedTuple):
    """An estimate and its standard error."""

    value: float
    se: float


def frechet_distance(real: Array, fake: Array) -> float:
    """Frechet distance |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) of two feature sets (Heusel et al., 2017, FID).

    (N, F) and (M, F), in squared feature units. Computed in float64, and exact for N < F too: with S1 = A'A and
    S2 = B'B, the trace of the root is the sum of the singular values of AB'. It is biased upwards for few images, so
    compare only values with equal N and M. ValueError for fewer than two images per set.
    """
    real, fake = checked(real, fake, least=2)
    distance = (real.mean(0) - fake.mean(0)).square().sum()
    first, second = _covariance_factor(real), _covariance_factor(fake)
    cross = torch.linalg.svdvals(first @ second.T).sum()
    return max(0.0, float(distance + first.square().sum() + second.square().sum() - 2 * cross))


def _covariance_factor(features: Tensor) -> Tensor:
    """A with A'A the unbiased covariance, with as few rows as possible: (N, F) -> (min(N, F), F)."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r")[1]


def kernel_distance(real: Array, fake: Array, *, chunk: int = CHUNK) -> Estimate:
    """Squared MMD of (N, F) and (M, F) with the kernel (x.y / F + 1)^3 (Binkowski et al., 2018, KID).

    The unbiased estimate over all pairs instead of random subsets; it can be negative. The standard error is that over
    images, from the first-order Hoeffding term, and up to sqrt(2) too large if both sets have the same distribution.
    ValueError for fewer than two images per set.
    """
    real, fake = checked(real, fake, least=2)
    to_fake, to_real = _mean_kernels(real, fake, chunk)
    of_real = _mean_kernels_within(real, chunk) - to_fake
    of_fake = _mean_kernels_within(fake, chunk) - to_real
    variance = 4 * (of_real.var() / len(real) + of_fake.var() / len(fake))
    return Estimate(float(of_real.mean() + of_fake.mean()), math.sqrt(float(variance)))


def _mean_kernels(first: Tensor, second: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Mean kernel of each row with all rows of the other set: (N, F) and (M, F) -> (N,) and (M,)."""
    of_first, of_second = [], second.new_zeros(len(second))
    for part in first.split(chunk):
        kernels = (part @ second.T).div_(first.shape[1]).add_(1).pow_(3)
        of_first.append(kernels.mean(1))
        of_second += kernels.sum(0)
    return torch.cat(of_first), of_second / len(first)


def _mean_kernels_within(features: Tensor, chunk: int) -> Tensor:
    """Mean kernel of each row with all other rows of its set: (N, F) -> (N,)."""
    totals = _mean_kernels(features, features, chunk)[0] * len(features)
    own = (features.square().sum(1) / features.shape[1] + 1) ** 3
    return (totals - own) / (len(features) - 1)


class ManifoldScores(NamedTuple):
    """Precision, recall, density and coverage of fake features against real ones.

    The ball of an image reaches to its k-th nearest neighbour in its own set.
    """

    precision: float
    """Fraction of fake images inside the ball of a real image."""
    recall: float
    """Fraction of real images inside the ball of a fake image."""
    density: float
    """Mean number of real balls that contain a fake image, divided by k; about 1 for equal distributions, unbounded."""
    coverage: float
    """Fraction of real images whose ball contains a fake image."""


def manifold_scores(
    real: Array, fake: Array, *, manifold_k: int = 3, density_k: int = 5, chunk: int = CHUNK
) -> ManifoldScores:
    """Improved precision and recall with ``manifold_k`` neighbours, density and coverage with ``density_k``.

    (N, F) and (M, F). Kynkäänniemi et al. (2019), with closed balls, and Naeem et al. (2020), with open balls. Memory
    is bounded by ``chunk`` rows of distances. ValueError if a set has too few images for the neighbours.
    """
    real, fake = checked(real, fake, least=max(manifold_k, density_k) + 1)
    centre = real.mean(0)  # distances are differences of squares, which cancel far from the origin
    real, fake = real - centre, fake - centre
    real_radii, density_radii = _radii(real, (manifold_k, density_k), chunk)
    (fake_radii,) = _radii(fake, (manifold_k,), chunk)
    precise, dense = real.new_zeros(len(fake), dtype=torch.bool), real.new_zeros(len(fake))
    recalled, covered = [], []
    for rows, distances in _distances(real, fake, chunk):
        precise |= (distances <= real_radii[rows, None]).any(0)
        inside = distances < density_radii[rows, None]
        dense += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances <= fake_radii).any(1))
    shares = (precise, torch.cat(recalled), dense / density_k, torch.cat(covered))
    return ManifoldScores(*(float(share.double().mean()) for share in shares))


def _radii(features: Tensor, neighbours: tuple[int, ...], chunk: int) -> list[Tensor]:
    """Distance of each row to its k-th nearest other row, for each k of ``neighbours``: (N, F) -> (N,) each."""
    # The row itself is at position 0, at a distance of about 0, so the k-th neighbour is at position k.
    nearest = [
        distances.topk(max(neighbours) + 1, largest=False).values
        for _, distances in _distances(features, features, chunk)
    ]
    return [torch.cat(nearest)[:, k] for k in neighbours]


def _distances(rows: Tensor, others: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances of ``chunk`` rows at a time to all others, with the slice of those rows."""
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        yield part, torch.cdist(rows[part], others, compute_mode="use_mm_for_euclid_dist")


def checked(*sets: Array, least: int) -> list[Tensor]:
    """Feature sets in float64; ValueError if one is too small, non-finite or of another width."""
    tensors = [torch.as_tensor(values).detach().double() for values in sets]
    for values in tensors:
        if values.ndim != 2 or values.shape[1:] != tensors[0].shape[1:]:
            raise ValueError(f"features must be (N, {tensors[0].shape[-1]}), got {tuple(values.shape)}")
        if len(values) < least:
            raise ValueError(f"at least {least} images are needed on each side, got {len(values)}")
        if not torch.isfinite(values).all():
            raise ValueError("the features or codes are not finite: the model gives infinite or undefined values")
    return tensors
