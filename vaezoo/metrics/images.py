"""Similarity of images in their local structure."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA = 1.5
HALF_WINDOW = 5
"""Half the window of Wang et al. (2004), a Gaussian of 11x11 pixels."""

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, the finest first (Wang et al., 2003)."""
STABILITY = (0.01**2, 0.03**2)
"""Constants of luminance and contrast for pixels in [0, 1]."""
LEAST_BASE = 1e-4
"""Similarities below it have the gradient of a power of this, which is finite."""


def ssim(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Structural similarity of pairs of images (Wang et al., 2004), at most 1: (B, C, H, W) twice -> (B,).

    For pixels in [0, 1]; mean over positions and channels, with mirrored borders. The window is 11x11 with sigma 1.5;
    for images with a side below 11 pixels it is the largest odd window that fits, with sigma in proportion (7x7 with
    0.86 at 8x8), so these values are not comparable with those of larger images.
    """
    window = _window_of(x.shape[-2:])
    x, y = (F.pad(images.float(), [window[0]] * 4, mode="reflect") for images in (x, reconstruction))
    luminance, contrast = _local(x, y, window)
    return (luminance * contrast).mean((1, 2, 3))


def ms_ssim(x: Tensor, reconstruction: Tensor, exponents: Sequence[float] | None = None) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003): (B, C, H, W) twice -> (B,).

    For pixels in [0, 1]. The product, over scales that halve the image by averaging 2x2 pixels, of contrast and
    structure to the power of the scale's exponent, and of luminance at the coarsest; mean over channels. Windows are
    those of ``ssim``, and are whole: none reaches over the border. A negative similarity of a scale counts as 0.

    ``exponents`` (S,) are by default those of the paper for the ``scales_of`` the images, divided by their sum. With
    one scale, the value is the SSIM of whole windows.
    """
    if exponents is None:
        exponents = EXPONENTS[: scales_of(x.shape[-2:])]
        exponents = [exponent / sum(exponents) for exponent in exponents]
    x, y = (images if images.dtype == torch.double else images.float() for images in (x, reconstruction))
    product = x.new_ones(x.shape[:2])
    for scale, exponent in enumerate(exponents):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        luminance, contrast = _local(x, y, _window_of(x.shape[-2:]))
        similarity = contrast if scale < len(exponents) - 1 else luminance * contrast
        product = product * _power(similarity.mean((2, 3)), exponent)
    return product.mean(1)


def scales_of(sides: Sequence[int]) -> int:
    """Scales of MS-SSIM at which a window of 11 pixels fits into images of these sides: at most 5, at least 1."""
    window = 2 * HALF_WINDOW + 1
    return max(1, min(len(EXPONENTS), (min(sides) // window).bit_length()))


def _window_of(sides: Sequence[int]) -> tuple[int, float]:
    """Pixels on each side of a window's centre, and its sigma."""
    half = min(HALF_WINDOW, (min(sides) - 1) // 2)
    return half, SIGMA if half == HALF_WINDOW else half / 3.5  # as torchmetrics, whose half is round(3.5 sigma)


def _local(x: Tensor, y: Tensor, window: tuple[int, float]) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, in each whole window: (B, C, H, W) twice -> (B, C, h, w) twice."""
    rows, columns = (_means(side, *window).to(x) for side in x.shape[-2:])

    def mean(values: Tensor) -> Tensor:  # by matrices: on a CPU several times as fast as by convolutions
        return rows @ (values @ columns.T)

    mean_x, mean_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + STABILITY[0]) / (mean_x**2 + mean_y**2 + STABILITY[0])
    return luminance, (2 * covariance + STABILITY[1]) / (variance_x + variance_y + STABILITY[1])


def _means(side: int, half: int, sigma: float) -> Tensor:
    """Weights of ``side`` pixels in a row in each whole window: (side - 2 half, side) in float64."""
    distance = torch.arange(side) - torch.arange(half, side - half)[:, None]
    weights = torch.exp(-0.5 * (distance.double() / sigma) ** 2) if half else torch.ones(side, side).double()
    inside = weights * (distance.abs() <= half)
    return inside / inside.sum(1, keepdim=True)


def _power(value: Tensor, exponent: float) -> Tensor:
    """A power that is 0 for negative values, with finite gradients everywhere."""
    return torch.where(value > 0, value.clamp(min=LEAST_BASE) ** exponent, 0.0)
