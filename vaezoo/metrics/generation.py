"""How near one set of images is to another in a feature space. It knows arrays (N, F) of features, no images."""

import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

Array = Tensor | NDArray[Any]

CHUNK = 1024
"""Rows of a matrix of all pairs that are in memory at once."""


class Estimate(NamedTuple):
    """A number and the standard error of its estimate."""

    value: float
    se: float


def frechet_distance(real: Array, fake: Array) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) between the Gaussians with two sets' moments (Heusel et al., 2017).

    Of (N, F) and (M, F), in squared feature units. In float64 and exact also where N < F: with S1 = A'A and S2 = B'B
    the last trace is the sum of the singular values of AB', and no root of a near-zero eigenvalue is taken. It is
    biased upwards by few images: compare numbers of equal N and M alone. Raises ValueError below two images a set.
    """
    real, fake = _checked(real, fake, least=2)
    distance = (real.mean(0) - fake.mean(0)).square().sum()
    first, second = _covariance_factor(real), _covariance_factor(fake)
    cross = torch.linalg.svdvals(first @ second.T).sum()
    return max(0.0, float(distance + first.square().sum() + second.square().sum() - 2 * cross))


def _covariance_factor(features: Tensor) -> Tensor:
    """A with A'A the unbiased covariance, and as few rows as it can have: (N, F) -> (min(N, F), F)."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    return centred if len(centred) <= centred.shape[1] else torch.linalg.qr(centred, mode="r")[1]


def kernel_distance(real: Array, fake: Array, *, chunk: int = CHUNK) -> Estimate:
    """Squared maximum mean discrepancy with the kernel (x.y / F + 1)^3 (KID; Binkowski et al., 2018) of (N, F), (M, F).

    The unbiased estimate over all pairs, not over random subsets; it can be negative. The standard error is that over
    images, from Hoeffding's first-order term, and too large by up to sqrt(2) where both sets are of one distribution.
    Raises ValueError below two images a set.
    """
    real, fake = _checked(real, fake, least=2)
    to_fake, to_real = _mean_kernels(real, fake, chunk)
    of_real = _mean_kernels_within(real, chunk) - to_fake
    of_fake = _mean_kernels_within(fake, chunk) - to_real
    variance = 4 * (of_real.var() / len(real) + of_fake.var() / len(fake))
    return Estimate(float(of_real.mean() + of_fake.mean()), math.sqrt(float(variance)))


def _mean_kernels(first: Tensor, second: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Mean kernel of each row of one set to all rows of the other: (N, F) and (M, F) -> (N,) and (M,)."""
    of_first, of_second = [], second.new_zeros(len(second))
    for part in first.split(chunk):
        kernels = (part @ second.T).div_(first.shape[1]).add_(1).pow_(3)
        of_first.append(kernels.mean(1))
        of_second += kernels.sum(0)
    return torch.cat(of_first), of_second / len(first)


def _mean_kernels_within(features: Tensor, chunk: int) -> Tensor:
    """Mean kernel of each row to all others of its own set, without itself: (N, F) -> (N,)."""
    totals = _mean_kernels(features, features, chunk)[0] * len(features)
    own = (features.square().sum(1) / features.shape[1] + 1) ** 3
    return (totals - own) / (len(features) - 1)


class ManifoldScores(NamedTuple):
    """How far two sets of features cover each other, each a share of images, except ``density``."""

    precision: float
    """Fake images within the ball of some real image, whose radius is the distance to its k-th real neighbour."""
    recall: float
    """Real images within the ball of some fake image."""
    density: float
    """How many real balls a fake image lies in, over k: about 1 for sets that are alike, and not bounded by it."""
    coverage: float
    """Real images whose ball has a fake image in it."""


def manifold_scores(
    real: Array, fake: Array, *, manifold_k: int = 3, density_k: int = 5, chunk: int = CHUNK
) -> ManifoldScores:
    """Improved precision and recall with ``manifold_k`` neighbours, density and coverage with ``density_k``.

    Of (N, F) and (M, F). Kynkäänniemi et al. (2019), whose balls are closed, and Naeem et al. (2020), whose balls are
    open. Memory is bounded by ``chunk`` rows of the distances. Raises ValueError where a set has no k-th neighbour.
    """
    real, fake = _checked(real, fake, least=max(manifold_k, density_k) + 1)
    centre = real.mean(0)  # distances are differences of squares, which lose digits far from the origin
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
    # The row itself is the nearest, at (nearly) no distance, so that the k-th neighbour is at position k.
    nearest = [
        distances.topk(max(neighbours) + 1, largest=False).values
        for _, distances in _distances(features, features, chunk)
    ]
    return [torch.cat(nearest)[:, k] for k in neighbours]


def _distances(rows: Tensor, others: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances of ``chunk`` rows at a time to all others, with where those rows stand."""
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        yield part, torch.cdist(rows[part], others, compute_mode="use_mm_for_euclid_dist")


class Mixture(NamedTuple):
    """A Gaussian mixture over codes: a prior for a model that has none."""

    weights: Tensor
    """(K,), adding up to 1."""
    means: Tensor
    """(K, D)."""
    factors: Tensor
    """(K, D, D), whose products with their own transposes are the covariances."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes drawn from it on the CPU, (count, D), float32; ``generator`` must be the CPU's."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return (self.means[component] + torch.einsum("nij,nj->ni", self.factors[component], noise)).float()


MOST_CODES = 10_000
"""Codes that a mixture is fitted to; more make it slower and hardly better."""


def fit_mixture(codes: Array, *, components: int = 10, seed: int = 0) -> Mixture:
    """Mixture of ``components`` full Gaussians, fitted to (N, D) codes (Ghosh et al., 2020).

    The first ``MOST_CODES`` are used, each dimension brought to variance 1 for the fit, so that its floor of 1e-6 under
    the variances means the same for every model. Fewer codes than components make that many components. Raises
    ValueError below two codes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    (values,) = _checked(codes, least=2)
    values = values[:MOST_CODES].cpu()
    mean, std = values.mean(0), values.std(0)
    scaled = (values - mean) / torch.where(std > 0, std, 1.0)
    mixture = GaussianMixture(min(components, len(values)), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct codes than components
        mixture.fit(scaled.numpy())
    weights, means, covariances = map(torch.from_numpy, (mixture.weights_, mixture.means_, mixture.covariances_))
    return Mixture(weights, mean + std * means, std[:, None] * torch.linalg.cholesky(covariances))


def _checked(*sets: Array, least: int) -> list[Tensor]:
    """Sets of features in float64; ValueError if one is too small, not finite or of another width."""
    tensors = [torch.as_tensor(values).detach().double() for values in sets]
    for values in tensors:
        if values.ndim != 2 or values.shape[1:] != tensors[0].shape[1:]:
            raise ValueError(f"features must be (N, {tensors[0].shape[-1]}), got {tuple(values.shape)}")
        if len(values) < least:
            raise ValueError(f"at least {least} images are needed on each side, got {len(values)}")
        if not torch.isfinite(values).all():
            raise ValueError("the features or codes are not finite: the model gives infinite or undefined values")
    return tensors
