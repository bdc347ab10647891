"""Pixels: conversion from stored uint8 to floats in [0, 1], binarisation and resizing."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.data.fitting import fit_pixels
from vaezoo.data.splits import seed_of
from vaezoo.distributed import memory
from vaezoo.distributed.batch_shares import BatchShare, uniform_like

Shape = tuple[int, int, int]  # channels, height, width

BINARIZE = ("none", "threshold", "dynamic")
FIT_CHUNK, FIT_BYTES = 1024, 2**28  # images resized at a time, and their maximum size as floats
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


def as_float(stored: Tensor, image_shape: Shape) -> Tensor:
    """Stored pixels as floats in [0, 1]: uint8 (B, C, H, W) or bit-packed (B, bytes) -> float32 (B, C, H, W)."""
    if stored.ndim == 2:
        return unpack_bits(stored, math.prod(image_shape)).view(-1, *image_shape).float()
    return stored.float().div_(255)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """Unpack ``count`` bits per row, highest bit first: uint8 (B, bytes) -> uint8 (B, count) of 0 and 1."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return packed.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and_(1).flatten(1)[:, :count]


def draw_binary(x: Tensor, seed: int, share: BatchShare | None = None) -> Tensor:
    """Set each pixel to 1 with its value as the probability, else 0: (B, ...) -> the same shape.

    ``share`` is this process's part of a batch that is divided between processes.
    """
    generator = torch.Generator(device=x.device).manual_seed(seed)
    return (uniform_like(x, generator, share) < x).to(x.dtype)


def binarize_once(images: Tensor, positions: NDArray[np.int64], method: str) -> Tensor:
    """Binarise to 0 and 255: uint8 (B, C, H, W) -> the same shape; bit-packed images are returned unchanged.

    "dynamic" seeds each image with its position in the split, so that the result does not depend on the batch size, the
    device, the run's seed, or on whether images are in memory.
    """
    if method == "none" or images.ndim == 2:
        return images
    if method == "threshold":
        return images.ge(128).to(torch.uint8).mul_(255)
    noise = [_noise(position, math.prod(images.shape[1:])) for position in positions.tolist()]
    drawn = torch.from_numpy(np.stack(noise)).view(images.shape) < images
    return drawn.to(torch.uint8).mul_(255)


def _noise(position: int, count: int) -> NDArray[np.uint8]:
    """Uniform integers 0 to 254: a pixel v in 0..255 exceeds one with probability v / 255."""
    # numpy guarantees that raw random bits never change. Reducing 2^32 values modulo 255 gives a bias below 1e-7.
    raw = np.random.PCG64(seed_of("fixed noise", position)).random_raw((count + 1) // 2).view(np.uint32)
    return (raw[:count] % 255).astype(np.uint8)


def fit(images: Tensor, image_shape: Shape, how: str = "crop") -> Tensor:
    """Resize images with 1 or 3 channels to ``image_shape``: uint8 (N, c, h, w) -> uint8 (N, C, H, W).

    ``how`` is one of ``FITS``. ConfigError if the result does not fit in memory.
    """
    if tuple(images.shape[1:]) == image_shape:
        return images
    height, width = image_shape[1:]
    what = f"{len(images):,} images of {height}x{width} pixels"
    memory.refuse_beyond(len(images) * math.prod(image_shape), what, "choose a smaller data.image_size")
    together = min(FIT_CHUNK, max(1, FIT_BYTES // (4 * math.prod(image_shape))))
    return torch.cat([_fit_chunk(chunk, image_shape, how) for chunk in images.split(together)])


def _fit_chunk(images: Tensor, image_shape: Shape, how: str) -> Tensor:
    channels, height, width = image_shape
    pixels = fit_pixels(_to_channels(images.float(), channels), (height, width), how)
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _to_channels(pixels: Tensor, channels: int) -> Tensor:
    """Repeat grey in every channel, or convert colours to luma: float (N, c, h, w) -> float (N, C, h, w)."""
    if pixels.shape[1] == channels:
        return pixels
    if pixels.shape[1] == 1:
        return pixels.expand(-1, channels, -1, -1)
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
