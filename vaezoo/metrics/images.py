"""Perceptual similarity of images."""

from torch import Tensor

SIGMA = 1.5
HALF_WINDOW = 5
"""Half the window of Wang et al. (2004), a Gaussian of 11x11 pixels."""


def ssim(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Structural similarity of pairs of images (Wang et al., 2004), at most 1: (B, C, H, W) twice -> (B,).

    For pixels in [0, 1]; mean over positions and channels, with mirrored borders. The window is 11x11 with sigma 1.5;
    for images with a side below 11 pixels it is the largest odd window that fits, with sigma in proportion (7x7 with
    0.86 at 8x8), so these values are not comparable with those of larger images.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    half = min(HALF_WINDOW, (min(x.shape[-2:]) - 1) // 2)
    sigma = SIGMA if half == HALF_WINDOW else half / 3.5  # torchmetrics uses round(3.5 sigma) pixels on each side
    similarity = structural_similarity_index_measure(
        reconstruction.float(), x.float(), sigma=sigma, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(x))
