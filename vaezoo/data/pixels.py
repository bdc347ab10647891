"""Pixels: stored as uint8, seen by models as floats in [0, 1]. It knows tensors only, no data sets and no loaders."""

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
FIT_CHUNK, FIT_BYTES = 1024, 2**28  # images resized at once, and the most that they may take as floats
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow


def as_float(stored: Tensor, image_shape: Shape) -> Tensor:
    """Stored pixels as a model sees them: uint8 (B, C, H, W) or bit-packed (B, bytes) -> float32 (B, C, H, W).

    The only place where pixels become floats, in [0, 1].
    """
    if stored.ndim == 2:
        return unpack_bits(stored, math.prod(image_shape)).view(-1, *image_shape).float()
    return stored.float().div_(255)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` bits of each row, highest bit first: uint8 (B, bytes) -> uint8 (B, count) of 0 and 1."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return packed.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and_(1).flatten(1)[:, :count]


def draw_binary(x: Tensor, seed: int, share: BatchShare | None = None) -> Tensor:
    """Each pixel 1 with its own value as the probability, by a generator of its own: (B, ...) -> the same shape.

    ``share`` says which images of a batch these are, where several processes have one between them.
    """
    generator = torch.Generator(device=x.device).manual_seed(seed)
    return (uniform_like(x, generator, share) < x).to(x.dtype)


def binarize_once(images: Tensor, positions: NDArray[np.int64], method: str) -> Tensor:
    """Pixels of 0 and 255 for good: uint8 (B, C, H, W) -> the same shape; bit-packed images are binary already.

    "dynamic" draws each image by a seed that is its position within its split, so that the outcome depends neither on
    the batch size, nor on the device, nor on the run's seed, nor on whether images lie in memory.
    """
    if method == "none" or images.ndim == 2:
        return images
    if method == "threshold":
        return images.ge(128).to(torch.uint8).mul_(255)
    noise = [_noise(position, math.prod(images.shape[1:])) for position in positions.tolist()]
    drawn = torch.from_numpy(np.stack(noise)).view(images.shape) < images
    return drawn.to(torch.uint8).mul_(255)


def _noise(position: int, count: int) -> NDArray[np.uint8]:
    """Uniform levels 0 to 254: a pixel of value v in 0..255 is above one of them with probability v / 255."""
    # Raw random bits are the part of numpy that never changes. 2^32 levels folded to 255: biased by less than 1e-7.
    raw = np.random.PCG64(seed_of("fixed noise", position)).random_raw((count + 1) // 2).view(np.uint32)
    return (raw[:count] % 255).astype(np.uint8)


def fit(images: Tensor, image_shape: Shape, how: str = "crop") -> Tensor:
    """Images of any size and of 1 or 3 channels brought to ``image_shape``: uint8 (N, c, h, w) -> uint8 (N, C, H, W).

    ``how`` is one of ``FITS``: "crop", "pad" or "stretch".
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
    """Grey repeated in every channel, or colours weighed to grey: float (N, c, h, w) -> float (N, C, h, w)."""
    if pixels.shape[1] == channels:
        return pixels
    if pixels.shape[1] == 1:
        return pixels.expand(-1, channels, -1, -1)
    return (pixels * pixels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
