"""Distances between sets of features equal closed forms, torchmetrics and loops over all pairs."""

import math

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from vaezoo.metrics.generation import frechet_distance, kernel_distance, manifold_scores


def with_moments(count: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """Features whose sample mean and unbiased sample covariance are exactly these."""
    draws = torch.randn(count, len(mean), dtype=torch.double)
    draws = draws - draws.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(draws.T.cov()), draws.T, upper=False).T
    return mean + white @ torch.linalg.cholesky(covariance).T


class Pixels(nn.Module):
    """Pixels themselves as features, for torchmetrics' classes."""

    num_features = 16

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).double() / 255


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    low = torch.randint(0, 200, (60, 1, 4, 4), dtype=torch.uint8)
    return low, torch.randint(30, 256, (45, 1, 4, 4), dtype=torch.uint8)


def test_frechet_distance_of_diagonal_gaussians_is_the_closed_form() -> None:
    mean, std = torch.tensor([0.0, 1, -2]).double(), torch.tensor([1.0, 0.5, 2]).double()
    other_mean, other_std = torch.tensor([1.0, 1, 0]).double(), torch.tensor([0.5, 0.5, 3]).double()
    real, fake = with_moments(50, mean, std.square().diag()), with_moments(40, other_mean, other_std.square().diag())
    expected = (mean - other_mean).square().sum() + (std - other_std).square().sum()  # 5 + 1.25
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), abs=1e-10)


def test_frechet_distance_of_correlated_gaussians_is_the_closed_form_in_two_dimensions() -> None:
    first, second = torch.tensor([[2.0, 0.6], [0.6, 1]]).double(), torch.tensor([[1.0, -0.3], [-0.3, 0.5]]).double()
    real, fake = with_moments(30, torch.zeros(2).double(), first), with_moments(20, torch.ones(2).double(), second)
    # The trace of the root of a 2x2 matrix M is sqrt(tr M + 2 sqrt det M).
    product = first @ second
    root = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    assert frechet_distance(real, fake) == pytest.approx(2 + 4.5 - 2 * root, abs=1e-10)


def test_frechet_distance_is_torchmetrics_fid(images: tuple[Tensor, Tensor]) -> None:
    fid = FrechetInceptionDistance(feature=Pixels(), input_img_size=(1, 4, 4))
    fid.update(images[0], real=True)
    fid.update(images[1], real=False)
    assert frechet_distance(*map(Pixels(), images)) == pytest.approx(fid.compute().item(), rel=1e-5)


def test_frechet_distance_is_exact_with_fewer_images_than_features() -> None:
    real, fake = torch.randn(12, 40, dtype=torch.double), torch.randn(9, 40, dtype=torch.double) * 2 + 1
    eigenvalues = torch.linalg.eigvals(real.T.cov() @ fake.T.cov()).real
    root = eigenvalues.sort().values[-8:].sqrt().sum()  # the rank is 8, the rest is rounding
    expected = (real.mean(0) - fake.mean(0)).square().sum() + real.var(0).sum() + fake.var(0).sum() - 2 * root
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("count", [20, 200])
def test_frechet_distance_of_a_set_to_itself_is_nothing_and_to_its_shift_is_the_shift(count: int) -> None:
    real = torch.randn(count, 40, dtype=torch.double)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, real.flip(0) + 0.5) == pytest.approx(40 * 0.25, rel=1e-9)


def test_frechet_distance_does_not_depend_on_which_set_is_real() -> None:
    real, fake = torch.randn(30, 5), torch.randn(7, 5) + 1
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)


def test_kernel_distance_is_a_loop_over_all_pairs() -> None:
    real, fake = torch.randn(7, 3, dtype=torch.double), torch.randn(5, 3, dtype=torch.double) + 0.3

    def mean(rows: Tensor, others: Tensor, *, same: bool) -> float:
        kernels = [
            float((x @ y / 3 + 1) ** 3)
            for i, x in enumerate(rows)
            for j, y in enumerate(others)
            if not (same and i == j)
        ]
        return sum(kernels) / len(kernels)

    expected = mean(real, real, same=True) + mean(fake, fake, same=True) - 2 * mean(real, fake, same=False)
    assert kernel_distance(real, fake).value == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_is_torchmetrics_kid_of_one_subset_with_all_images(images: tuple[Tensor, Tensor]) -> None:
    real, fake = images[0][:45], images[1]
    kid = KernelInceptionDistance(feature=Pixels(), subsets=1, subset_size=45)
    kid.update(real, real=True)
    kid.update(fake, real=False)
    assert kernel_distance(Pixels()(real), Pixels()(fake)).value == pytest.approx(kid.compute()[0].item(), rel=1e-5)


def test_kernel_distance_has_no_bias_and_its_standard_error_is_the_spread_over_sets() -> None:
    alike, apart = [], []
    for _ in range(100):
        real = torch.randn(80, 4)
        alike.append(kernel_distance(real, torch.randn(60, 4)))
        apart.append(kernel_distance(real, torch.randn(60, 4) + 0.7))
    values = torch.tensor([estimate.value for estimate in alike])
    assert abs(values.mean()) < 3 * values.std() / 10
    spread = torch.tensor([estimate.value for estimate in apart]).std().item()
    typical = math.sqrt(sum(estimate.se**2 for estimate in apart) / len(apart))
    assert 0.75 < typical / spread < 1.33


def loops(real: Tensor, fake: Tensor, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage by their definitions, one pair at a time."""

    def radius(point: Tensor, others: Tensor) -> Tensor:
        return sorted((point - other).norm() for other in others)[k]  # the first is the point itself

    real_radii, fake_radii = [radius(x, real) for x in real], [radius(y, fake) for y in fake]
    precision = [any((x - y).norm() <= r for x, r in zip(real, real_radii, strict=True)) for y in fake]
    recall = [any((x - y).norm() <= r for y, r in zip(fake, fake_radii, strict=True)) for x in real]
    density = [sum(bool((x - y).norm() < r) for x, r in zip(real, real_radii, strict=True)) / k for y in fake]
    coverage = [any((x - y).norm() < r for y in fake) for x, r in zip(real, real_radii, strict=True)]
    return tuple(float(sum(part)) / len(part) for part in (precision, recall, density, coverage))  # type: ignore[return-value]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_manifold_scores_are_a_loop_over_all_pairs_whatever_the_chunk(k: int, chunk: int) -> None:
    real, fake = torch.randn(23, 3, dtype=torch.double), 1.5 * torch.randn(17, 3, dtype=torch.double) + 0.5
    found = manifold_scores(real, fake, manifold_k=k, density_k=k, chunk=chunk)
    assert found == pytest.approx(loops(real, fake, k), abs=1e-12)
    assert min(found) > 0
    assert found.recall < 1 or k > 1


def test_three_neighbours_make_the_manifold_and_five_the_density() -> None:
    real, fake = torch.randn(23, 3), torch.randn(17, 3) + 1
    three, five = manifold_scores(real, fake, density_k=3), manifold_scores(real, fake, manifold_k=5)
    found = manifold_scores(real, fake)
    assert found == (three.precision, three.recall, five.density, five.coverage)
    assert found.precision != five.precision
    assert found.density != three.density


def test_a_set_covers_itself_with_density_one() -> None:
    real = torch.randn(50, 4)
    assert manifold_scores(real, real) == pytest.approx((1, 1, 1, 1))


def test_six_images_are_enough_for_five_neighbours() -> None:
    real = torch.randn(6, 4)
    assert manifold_scores(real, real) == pytest.approx((1, 1, 1, 1))
    with pytest.raises(ValueError, match="at least 6"):
        manifold_scores(real, real[:5])


def test_sets_far_from_each_other_share_nothing() -> None:
    assert manifold_scores(torch.randn(30, 4), torch.randn(30, 4) + 100) == (0, 0, 0, 0)


def test_a_dropped_mode_costs_recall_and_coverage_and_no_precision() -> None:
    modes = torch.cat([torch.randn(100, 4), torch.randn(100, 4) + 50])
    found = manifold_scores(modes, torch.randn(100, 4))
    assert found.precision > 0.8
    assert 0.35 < found.recall <= 0.5
    assert 0.35 < found.coverage <= 0.5


def test_invented_images_cost_precision_and_density_and_no_recall() -> None:
    fake = torch.cat([torch.randn(100, 4), torch.randn(100, 4) + 50])
    found = manifold_scores(torch.randn(100, 4), fake)
    assert 0.35 < found.precision <= 0.5
    assert 0.35 < found.density < 0.65
    assert found.recall > 0.8


def test_one_real_outlier_makes_no_density() -> None:
    """Its huge ball counts every fake image as precise: the flaw of precision that density was made for."""
    real = torch.cat([torch.randn(99, 4), torch.full((1, 4), 1000.0)])
    found = manifold_scores(real, torch.randn(50, 4) + 50)
    assert found.precision == 1
    assert found.density < 0.5


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    real, fake = torch.randn(40, 4).double(), torch.randn(40, 4).double()
    assert manifold_scores(real + 1e7, fake + 1e7) == pytest.approx(manifold_scores(real, fake))
    assert frechet_distance(real + 1e7, fake + 1e7) == pytest.approx(frechet_distance(real, fake), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_kernel_distance_does_not_depend_on_the_chunk(chunk: int) -> None:
    real, fake = torch.randn(23, 3), torch.randn(17, 3)
    assert kernel_distance(real, fake, chunk=chunk) == pytest.approx(kernel_distance(real, fake), rel=1e-12)


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance, manifold_scores])
def test_what_cannot_be_measured_is_said(measure) -> None:  # type: ignore[no-untyped-def]
    real = torch.randn(10, 3)
    with pytest.raises(ValueError, match="are needed on each side, got 1"):
        measure(real, real[:1])
    with pytest.raises(ValueError, match="not finite"):
        measure(real, real / 0)
    with pytest.raises(ValueError, match=r"must be \(N, 3\), got \(10, 2\)"):
        measure(real, real[:, :2])
