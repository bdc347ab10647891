"""Levels: the numeric values of pixels in image files, and their conversion to 8 bits or to stored values."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = tuple[float, float]
"""The levels that become 0 and 1."""

FULL: dict[str, Levels] = {"8-bit": (0, 255), "16-bit": (0, 65535), "floating-point": (0, 1)}
"""Full range of each kind of file. Pillow does not distinguish 32-bit integers from 16-bit ones."""


class Extremes(NamedTuple):
    """The kind of a file (a key of ``FULL``), and its lowest and highest level."""

    kind: str
    low: float
    high: float


def kind_of(image: Image.Image) -> str:
    """The kind of an image's levels, without decoding it. Pillow reads 16-bit colour images with 8 bits."""
    if image.mode == "F":
        return "floating-point"
    return "16-bit" if image.mode.startswith("I") else "8-bit"


def extremes(image: Image.Image) -> Extremes:
    """The lowest and highest level of a decoded image; ValueError if some are non-finite."""
    kind = kind_of(image)
    levels = _finite(np.asarray(_opaque(image).convert("RGB") if kind == "8-bit" else image))
    return Extremes(kind, float(levels.min()), float(levels.max()))


def to_bytes(image: Image.Image, mode: str, levels: Levels | None) -> Image.Image:
    """Convert to an opaque 8-bit image in ``mode`` "L" or "RGB": ``levels`` become 0 and 255, None for the full range.

    Levels outside are clipped. ValueError if levels are non-finite or, with None, outside the full range, or if
    ``levels`` exceed the range of an 8-bit file, which would be too dark.
    """
    kind = kind_of(image)
    if kind == "8-bit":
        plain = _opaque(image).convert(mode)
        return plain if levels is None else _stretched(plain, levels)
    values = _finite(np.asarray(image))
    if levels is None:
        _refuse_beyond(kind, values)
    return Image.fromarray(_scaled(values, levels or FULL[kind])).convert(mode)


def to_values(image: Image.Image, mode: str, levels: Levels | None, full: float) -> NDArray[np.float32]:
    """The values of an opaque image in ``mode`` "L" or "RGB": (C, H, W), with C = 1 for more than 8 bits.

    They are clipped to ``levels``; without any, the full range of their kind becomes 0 to ``full``. ValueError as by
    ``to_bytes``.
    """
    kind = kind_of(image)
    if kind == "8-bit":
        _refuse_too_dark(levels)
        image = _opaque(image).convert(mode)
    values = _finite(np.asarray(image)).astype(np.float64)
    if levels is None:
        _refuse_beyond(kind, values)
    kept = values * (full / FULL[kind][1]) if levels is None else np.clip(values, *levels)
    return np.moveaxis(np.atleast_3d(kept), 2, 0).astype(np.float32)


def _refuse_too_dark(levels: Levels | None) -> None:
    if levels is not None and levels[1] > FULL["8-bit"][1]:
        raise ValueError(f"it has 8 bits per channel, but data.range extends to {levels[1]:g}")


def _stretched(image: Image.Image, levels: Levels) -> Image.Image:
    _refuse_too_dark(levels)
    table = _scaled(np.arange(256), levels).tolist()
    return image.point(table * len(image.getbands()))


def _scaled(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    low, high = levels
    return np.rint((np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _opaque(image: Image.Image) -> Image.Image:
    """Composite transparent images onto white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("some of its levels are not finite")
    return values


def _refuse_beyond(kind: str, values: NDArray[Any]) -> None:
    (low, high), (least, most) = FULL[kind], (values.min(), values.max())
    if least < low or most > high:
        raise ValueError(f"its levels are {least:g} to {most:g}, not {low:g} to {high:g}; set data.range=[LOW,HIGH]")
