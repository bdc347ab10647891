"""Levels: the numbers in an image file, and which of them become black and white. It knows no files and no folders."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = tuple[float, float]
"""The level of a file that becomes 0 and the one that becomes 1."""

FULL: dict[str, Levels] = {"8-bit": (0, 255), "16-bit": (0, 65535), "floating-point": (0, 1)}
"""All levels of each kind of file. 32-bit integers count as 16-bit ones, as Pillow does not tell them apart."""


class Extremes(NamedTuple):
    """The kind of a file, a key of ``FULL``, and its lowest and highest level."""

    kind: str
    low: float
    high: float


def kind_of(image: Image.Image) -> str:
    """Which kind of levels an image has; it need not be decoded yet. 16-bit colours are 8-bit ones to Pillow."""
    if image.mode == "F":
        return "floating-point"
    return "16-bit" if image.mode.startswith("I") else "8-bit"


def extremes(image: Image.Image) -> Extremes:
    """The lowest and the highest level of a decoded image; ValueError for numbers that are not finite."""
    kind = kind_of(image)
    levels = _finite(np.asarray(_opaque(image).convert("RGB") if kind == "8-bit" else image))
    return Extremes(kind, float(levels.min()), float(levels.max()))


def to_bytes(image: Image.Image, mode: str, levels: Levels | None) -> Image.Image:
    """An opaque image in ``mode``, "L" or "RGB", whose 0 and 255 are ``levels`` of the file; None: all of its kind.

    Levels beyond the given ones become black or white. ValueError where the image has levels beyond those of its kind,
    or the given ones are beyond those that it can have: it would be too dark to see.
    """
    kind = kind_of(image)
    if kind == "8-bit":
        plain = _opaque(image).convert(mode)
        return plain if levels is None else _stretched(plain, levels)
    values = _finite(np.asarray(image))
    if levels is None:
        _refuse_beyond(kind, values)
    return Image.fromarray(_scaled(values, levels or FULL[kind])).convert(mode)


def _stretched(image: Image.Image, levels: Levels) -> Image.Image:
    if levels[1] > FULL["8-bit"][1]:
        raise ValueError(f"it has 8 bits per channel, but data.range extends to {levels[1]:g}")
    table = _scaled(np.arange(256), levels).tolist()
    return image.point(table * len(image.getbands()))


def _scaled(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    low, high = levels
    return np.rint((np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _opaque(image: Image.Image) -> Image.Image:
    """Transparency lies on white."""
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
