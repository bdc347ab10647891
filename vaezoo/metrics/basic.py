"""Numbers that every validation gives, as pure functions of tensors. They know nothing of modules and logging."""

import math

import torch
from torch import Tensor

ACTIVE_THRESHOLD = 0.01
"""Least variance of a dimension's posterior mean over images that makes it active (Burda et al., 2016)."""

LEAST_MSE = 1e-10
"""Errors below this count as this, so that a perfect image has 100 dB and a mean over images stays finite."""


def mse(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error over the pixels of each image, pixels in [0, 1]: (B, C, H, W) twice -> (B,)."""
    return (x - reconstruction).square().flatten(1).mean(1)


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, for pixels in [0, 1]; its mean is not that of the mean error."""
    return -10 * torch.log10(mse.clamp(min=LEAST_MSE))


def active_units(variance: Tensor) -> Tensor:
    """How many dimensions are active, from the variance of their posterior means over images: (D,) -> ()."""
    return (variance > ACTIVE_THRESHOLD).sum()


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """Nats per image as bits per pixel and channel; meaningful for discrete likelihoods alone."""
    return nats / (dimensions * math.log(2))
