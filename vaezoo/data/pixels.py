"""Pixels: conversion from stored values to floats in [0, 1], binarisation and resizing.

Stored are uint8, for levels 0 to 255; the bits of uint16 as int16, because torch has few operations on uint16; or
float32. Bits are packed into uint8 (N, bytes).
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.config.shapes import is_table
from vaezoo.data.fitting import fit_pixels
from vaezoo.data.levels import FULL, Levels
from vaezoo.data.splits import seed_of
from vaezoo.distributed import memory
from vaezoo.distributed.batch_shares import BatchShare, uniform_like

Shape = tuple[int, int, int]  # channels, height, width

BINARIZE = ("none", "threshold", "dynamic")
FIT_CHUNK, FIT_BYTES = 1024, 2**28  # images resized at a time, and their maximum size as floats
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


def as_float(stored: Tensor, image_shape: Shape, levels: Levels | None = None) -> Tensor:
    """Stored pixels as floats in [0, 1]: (B, C, H, W) or bit-packed (B, bytes) -> float32 (B, C, H, W).

    ``levels`` are those of 16-bit and floating-point pixels that become 0 and 1; None for the full range. Rows of a
    table are stored as they are trained on.
    """
    if is_table(image_shape):
        return stored
    if stored.ndim == 2:
        return unpack_bits(stored, math.prod(image_shape)).view(-1, *image_shape).float()
    if stored.dtype == torch.uint8:
        return stored.float().div_(255)
    low, high = levels or FULL["16-bit" if stored.dtype == torch.int16 else "floating-point"]
    return values_of(stored).sub(low).div_(high - low).clamp_(0, 1)  # clamped, because floating point rounds


def values_of(stored: Tensor) -> Tensor:
    """The values of stored pixels, which float32 holds exactly: (...) -> float32 (...)."""
    return (stored.view(torch.uint16) if stored.dtype == torch.int16 else stored).float()


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


def binarize_once(images: Tensor, positions: NDArray[np.int64], method: str, levels: Levels | None = None) -> Tensor:
    """Binarise to 0 and 255: (B, C, H, W) -> uint8 (B, C, H, W); bit-packed images are returned unchanged.

    "dynamic" seeds each image with its position in the split, so that the result does not depend on the batch size, the
    device, the run's seed, or on whether images are in memory.
    """
    if method == "none" or images.ndim == 2:
        return images
    if images.dtype != torch.uint8:
        return _binarize_floats(as_float(images, (0, 0, 0), levels), positions, method)
    if method == "threshold":
        return images.ge(128).to(torch.uint8).mul_(255)
    # Uniform integers 0 to 254: a pixel v in 0..255 exceeds one with probability v / 255. Reducing 2^32 values modulo
    # 255 gives a bias below 1e-7.
    noise = [(_noise(position, images[0].numel()) % 255).astype(np.uint8) for position in positions.tolist()]
    drawn = torch.from_numpy(np.stack(noise)).view(images.shape) < images
    return drawn.to(torch.uint8).mul_(255)


def _binarize_floats(x: Tensor, positions: NDArray[np.int64], method: str) -> Tensor:
    """Binarise floats in [0, 1] to 0 and 255: (B, C, H, W) -> uint8 (B, C, H, W)."""
    if method == "threshold":
        return x.ge(0.5).to(torch.uint8).mul_(255)
    noise = [_noise(position, x[0].numel()) / 2**32 for position in positions.tolist()]
    return (torch.from_numpy(np.stack(noise)).view(x.shape) < x).to(torch.uint8).mul_(255)


def _noise(position: int, count: int) -> NDArray[np.uint32]:
    """Uniform integers below 2^32. numpy guarantees that raw random bits never change."""
    raw = np.random.PCG64(seed_of("fixed noise", position)).random_raw((count + 1) // 2).view(np.uint32)
    return raw[:count]


def fit(images: Tensor, image_shape: Shape, how: str = "crop", black: float = 0.0) -> Tensor:
    """Resize stored images to ``image_shape``, rounded as they are stored: (N, c, h, w) -> (N, C, H, W).

    ``how`` is one of ``FITS``; padding has the value ``black``. Channels may change from 1, or from 3 to 1. ConfigError
    if the result does not fit in memory.
    """
    if tuple(images.shape[1:]) == image_shape:
        return images
    height, width = image_shape[1:]
    what = f"{len(images):,} images of {height}x{width} pixels"
    size = len(images) * math.prod(image_shape) * images.element_size()
    memory.refuse_beyond(size, what, "choose a smaller data.image_size")
    together = min(FIT_CHUNK, max(1, FIT_BYTES // (4 * math.prod(image_shape))))
    return torch.cat([_fit_chunk(chunk, image_shape, how, black) for chunk in images.split(together)])


def _fit_chunk(images: Tensor, image_shape: Shape, how: str, black: float) -> Tensor:
    channels, height, width = image_shape
    pixels = fit_pixels(_to_channels(values_of(images), channels), (height, width), how, black)
    if images.is_floating_point():
        return pixels
    highest = 255 if images.dtype == torch.uint8 else 65535
    rounded = pixels.round().clamp(0, highest).to(torch.int32)
    return rounded.to(torch.uint8) if images.dtype == torch.uint8 else rounded.to(torch.uint16).view(torch.int16)


def _to_channels(pixels: Tensor, channels: int) -> Tensor:
    """Repeat grey in every channel, or convert colours to luma: float (N, c, h, w) -> float (N, C, h, w)."""
    if pixels.shape[1] == channels:
        return pixels
    if pixels.shape[1] == 1:
        return pixels.expand(-1, channels, -1, -1)
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
