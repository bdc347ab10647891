"""Distance of local structure at several scales, which needs no network."""

from typing import Any

from torch import Tensor

from vaezoo.metrics.images import ms_ssim, scales_of
from vaezoo.nn.networks import ImageShape
from vaezoo.nn.perceptual.base import PerceptualDistance


class MSSSIM(PerceptualDistance):
    """1 - MS-SSIM (Wang, Simoncelli and Bovik, 2003), with as many scales as the images have pixels for."""

    name = "ms_ssim"

    def __init__(self, image_shape: ImageShape, **options: Any) -> None:
        super().__init__(image_shape, **options)
        self.scales = scales_of(image_shape[1:])

    def distance(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        return 1 - ms_ssim(x, reconstruction)

    def describe(self) -> str:
        return f"1 - MS-SSIM at {self.scales} scale{'s' if self.scales > 1 else ''}"
