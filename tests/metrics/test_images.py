"""Similarity of images equals its formula at every size."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vaezoo.metrics.images import ms_ssim, scales_of, ssim


def by_hand(x: Tensor, y: Tensor, size: int, sigma: float) -> float:
    """SSIM of two (H, W) images, window by window, with mirrored borders."""
    half = size // 2
    distance = torch.arange(size).double() - half
    weights = torch.exp(-distance.square() / (2 * sigma**2))
    window = torch.outer(weights, weights) / weights.sum() ** 2
    x, y = (torch.nn.functional.pad(z[None, None].double(), [half] * 4, mode="reflect")[0, 0] for z in (x, y))
    values = []
    for row in range(x.shape[0] - size + 1):
        for column in range(x.shape[1] - size + 1):
            a, b = (z[row : row + size, column : column + size] for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(float(luminance * (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)))
    return sum(values) / len(values)


@pytest.mark.parametrize(("shape", "size", "sigma"), [((8, 8), 7, 3 / 3.5), ((8, 12), 7, 3 / 3.5), ((12, 13), 11, 1.5)])
def test_the_window_is_the_largest_odd_one_up_to_eleven_that_fits(
    shape: tuple[int, int], size: int, sigma: float
) -> None:
    x, y = torch.rand(2, 1, *shape), torch.rand(2, 1, *shape)
    found = ssim(x, y)
    assert found.tolist() == pytest.approx([by_hand(x[i, 0], y[i, 0], size, sigma) for i in range(2)], abs=1e-5)


def test_ssim_is_torchmetrics_default_from_11_pixels_up() -> None:
    x, y = torch.rand(3, 3, 28, 28), torch.rand(3, 3, 28, 28)
    torch.testing.assert_close(ssim(x, y), structural_similarity_index_measure(y, x, data_range=1.0, reduction="none"))


@pytest.mark.parametrize("count", [1, 4])
def test_an_image_is_entirely_similar_to_itself_one_value_for_each(count: int) -> None:
    x = torch.rand(count, 3, 8, 8)
    torch.testing.assert_close(ssim(x, x), torch.ones(count))


def test_flat_images_differ_by_their_luminance_term() -> None:
    x, y = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.8)
    assert ssim(x, y).item() == pytest.approx((2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4), rel=1e-3)


# several scales ------------------------------------------------------------------------------------------------------


def test_ms_ssim_is_the_known_value_of_whole_windows() -> None:
    """Computed window by window in float64, with raw exponents; torchmetrics mirrors borders, and has 0.963378."""
    draw = np.random.RandomState(22)
    x = draw.rand(64, 64)
    y = np.clip(x + 0.1 * draw.randn(64, 64), 0, 1)
    found = ms_ssim(*(torch.from_numpy(values)[None, None] for values in (x, y)), exponents=(0.0448, 0.2856, 0.3001))
    assert found.item() == pytest.approx(0.9637101694649838, abs=1e-9)


def test_with_one_scale_ms_ssim_is_the_ssim_of_whole_windows() -> None:
    x, y = torch.rand(2, 1, 8, 12), torch.rand(2, 1, 8, 12)
    close = (0.9 * x + 0.1 * y).clamp(0, 1)
    windows = x.unfold(2, 7, 1).unfold(3, 7, 1)[:, 0], close.unfold(2, 7, 1).unfold(3, 7, 1)[:, 0]
    expected = [
        sum(by_hand_whole(windows[0][i, r, c], windows[1][i, r, c]) for r in range(2) for c in range(6)) / 12
        for i in range(2)
    ]
    assert ms_ssim(x, close).tolist() == pytest.approx(expected, abs=1e-5)


def by_hand_whole(a: Tensor, b: Tensor) -> float:
    """SSIM of one window of 7x7 pixels."""
    line = torch.exp(-0.5 * ((torch.arange(7).double() - 3) / (3 / 3.5)) ** 2)
    weights = torch.outer(line, line) / line.sum() ** 2
    a, b = a.double(), b.double()
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return float(luminance * (2 * covariance + 9e-4) / (var_a + var_b + 9e-4))


@pytest.mark.parametrize(
    ("side", "scales"), [(1, 1), (8, 1), (11, 1), (21, 1), (22, 2), (32, 2), (64, 3), (176, 5), (999, 5)]
)
def test_there_are_as_many_scales_as_windows_fit(side: int, scales: int) -> None:
    assert scales_of((side, 1000)) == scales


def test_an_opposite_image_has_a_similarity_of_0_and_finite_gradients() -> None:
    x = torch.rand(3, 3, 32, 32)
    y = (1 - x).requires_grad_()
    found = ms_ssim(x, y)
    assert found.tolist() == [0, 0, 0]
    assert torch.autograd.grad(found.sum(), y)[0].isfinite().all()
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(3))
