"""Similarity of images equals its formula at every size."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vaezoo.metrics.images import ssim


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
