"""Resizing of images to one size by cropping, padding or stretching."""

from torch import Tensor
from torch.nn import functional

FITS = ("crop", "pad", "stretch")
"""Scale the shorter side and crop the longer one; scale the longer side and pad with black; or scale both sides."""

Size = tuple[int, int]  # height, width


def scaled_size(size: Size, wanted: Size, fit: str) -> Size:
    """Size to which an image is scaled before it is cropped or padded to ``wanted``."""
    if fit == "stretch":
        return wanted
    ratios = [there / here for there, here in zip(wanted, size, strict=True)]
    if fit == "pad":
        return _sides(size, min(ratios), least=(1, 1), most=wanted)
    return _sides(size, max(ratios), least=wanted, most=(2**31, 2**31))


def _sides(size: Size, scale: float, *, least: Size, most: Size) -> Size:
    height, width = (
        min(high, max(low, round(side * scale))) for side, low, high in zip(size, least, most, strict=True)
    )
    return height, width


def fit_pixels(pixels: Tensor, wanted: Size, fit: str, black: float = 0.0) -> Tensor:
    """Resize with antialiased bilinear interpolation: float (N, C, h, w) -> (N, C, H, W); padded with ``black``."""
    size = scaled_size((pixels.shape[2], pixels.shape[3]), wanted, fit)
    if size != tuple(pixels.shape[2:]):
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    top, left = (int((there - here) / 2) for there, here in zip(wanted, size, strict=True))  # negative: crop
    margins = (left, wanted[1] - size[1] - left, top, wanted[0] - size[0] - top)
    return functional.pad(pixels, margins, value=black)
