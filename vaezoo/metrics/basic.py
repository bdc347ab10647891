"""Metrics of every validation, as pure functions of tensors."""

import math

import torch
from torch import Tensor

ACTIVE_THRESHOLD = 0.01
"""A dimension is active if the variance of its posterior mean over images exceeds this (Burda et al., 2016)."""

LEAST_MSE = 1e-10
"""Lower bound of the error in ``psnr``, so that a perfect image has 100 dB and a mean over images is finite."""


def mse(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each image over pixels and channels: (B, C, H, W) twice -> (B,)."""
    return (x - reconstruction).square().flatten(1).mean(1)


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, from its MSE for pixels in [0, 1]: (B,) -> (B,).

    The mean over images differs from the PSNR of the mean error.
    """
    return -10 * torch.log10(mse.clamp(min=LEAST_MSE))


def active_units(variance: Tensor) -> Tensor:
    """Number of active dimensions, from the variance of posterior means over images: (D,) -> ()."""
    return (variance > ACTIVE_THRESHOLD).sum()


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """Nats per image converted to bits per pixel and channel; meaningful for discrete likelihoods only."""
    return nats / (dimensions * math.log(2))
