"""Penalties that compare images."""

import torch
from torch import Tensor

from vaezoo.metrics.images import ssim
from vaezoo.nn.penalties.base import Encoded, Penalty, pixels_of


class SSIM(Penalty):
    """1 - SSIM of each image and its reconstruction from the drawn code (Wang et al., 2004), beside the likelihood.

    It is no log likelihood, and no part of ``recon`` or the ELBO.
    """

    label = "one_minus_ssim"
    needs_pixels = True

    def __init__(self, latent_dim: int, *, weight: float = 100.0) -> None:
        super().__init__(weight)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        pixels = pixels_of(seen)
        with torch.autocast(pixels.device.type, enabled=False):
            return 1 - ssim(seen.x, pixels), None

    def formula(self) -> str:
        return f"{self.weight:g} (1 - SSIM)"
