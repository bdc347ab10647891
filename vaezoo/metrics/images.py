"""Similarity of images to each other, as the eye has it. It knows tensors of pixels, no models."""

from torch import Tensor

SIGMA = 1.5
HALF_WINDOW = 5
"""The window of Wang et al. (2004): a Gaussian of 11x11 pixels."""


def ssim(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Structural similarity of each pair of images (Wang et al., 2004), at most 1: (B, C, H, W) twice -> (B,).

    Pixels in [0, 1], mean over positions and channels, borders mirrored. The window is 11x11 with sigma 1.5; where the
    shorter side has fewer than 11 pixels it is the largest odd window that fits, with sigma in proportion (7x7 with
    0.86 at 8x8), so that those numbers are not to be compared with those of larger images.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    half = min(HALF_WINDOW, (min(x.shape[-2:]) - 1) // 2)
    sigma = SIGMA if half == HALF_WINDOW else half / 3.5  # torchmetrics takes round(3.5 sigma) pixels on each side
    similarity = structural_similarity_index_measure(
        reconstruction.float(), x.float(), sigma=sigma, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(x))
