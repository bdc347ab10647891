"""Validation of data settings; all functions raise ConfigError for invalid values."""

import math
from typing import Any

from vaezoo.config.errors import ConfigError
from vaezoo.data.fitting import FITS
from vaezoo.data.levels import Levels
from vaezoo.data.pixels import BINARIZE, Shape
from vaezoo.data.sources import NAMES
from vaezoo.data.sprites import IMAGE_SHAPE as SPRITE_SHAPE

SMALLEST_SIDE, LARGEST_SIDE = 8, 2**14
MOST_WORKERS = 1024
"""Maximum of ``data.num_workers``."""


def checked_shape(image_size: int | list[int], channels: int, source: str) -> Shape:
    """(channels, height, width), from an ``image_size`` that is a number or [height, width]; else ConfigError."""
    sides = list(image_size) if isinstance(image_size, list | tuple) else [image_size, image_size]
    if len(sides) != 2 or not all(is_whole(side, SMALLEST_SIDE) and side <= LARGEST_SIDE for side in sides):
        raise ConfigError(
            f"data.image_size must be a whole number from {SMALLEST_SIDE} up, or two as [height, width], none above"
            f" {LARGEST_SIDE}, got {image_size!r}"
        )
    check_choice("channels", channels, (1, 3))
    shape = (channels, sides[0], sides[1])
    if source == "sprites" and shape != SPRITE_SHAPE:
        raise ConfigError(
            f"sprites are drawn with data.channels=1 and data.image_size=64 only, got {channels} and {image_size!r}"
        )
    return shape


def check_names(source: str, dataset: str | None, binarize: str) -> None:
    """ConfigError for impossible values of ``source``, ``dataset`` and ``binarize``."""
    check_choice("source", source, NAMES)
    check_choice("binarize", binarize, BINARIZE)
    if (source == "torchvision") != (dataset is not None):
        raise ConfigError(
            "data.dataset names a class of torchvision.datasets and applies only to data.source=torchvision, got"
            f" {dataset!r} with data.source={source}"
        )


def check_fit(fit: Any, levels: Any, source: str) -> None:
    """ConfigError for impossible values of ``fit`` and ``range``."""
    check_choice("fit", fit, FITS)
    if levels not in ("auto", "full") and not _is_range(levels):
        raise ConfigError(
            "data.range must be auto, full or [LOW,HIGH], two numbers of which the second is larger, for the levels of"
            f" an image file that become black and white, got {levels!r}"
        )
    if source != "image_folder" and levels != "auto":
        raise ConfigError(
            f"data.range is for image files of data.source=image_folder, got {levels!r} with data.source={source};"
            " leave it out"
        )


def check_leave_out(value: Any) -> None:
    """ConfigError unless ``leave_out`` is None, or a list of classes by number or by name."""
    classes = value if isinstance(value, list | tuple) else ()
    if value is not None and not (classes and all(is_whole(each, 0) or isinstance(each, str) for each in classes)):
        raise ConfigError(f"data.leave_out must be null or a list of classes, such as [1] or [cat], got {value!r}")


def given_levels(levels: str | list[float]) -> Levels | None:
    """The levels of a valid ``data.range``, None for "auto" and "full"."""
    return None if isinstance(levels, str) else (levels[0], levels[1])


def _is_range(levels: Any) -> bool:
    numbers = (
        isinstance(levels, list | tuple) and len(levels) == 2 and all(type(each) in (int, float) for each in levels)
    )
    return numbers and all(map(math.isfinite, levels)) and levels[0] < levels[1]


def check_choice(key: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``; 1 does not count as true."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise ConfigError(f"data.{key} must be one of {', '.join(map(str, choices))}, got {value!r}")


def check_whole(key: str, value: Any, least: int, most: int = 2**63 - 1) -> None:
    """Raise ConfigError unless ``value`` is a whole number from ``least`` to ``most``."""
    if not is_whole(value, least) or value > most:
        bounds = f"from {least} up" if most == 2**63 - 1 else f"from {least} to {most}"
        raise ConfigError(f"data.{key} must be a whole number {bounds}, got {value!r}")


def check_size(key: str, value: Any) -> None:
    """Raise ConfigError unless ``value`` is a number of images or a fraction of them."""
    if not is_whole(value, 1) and not (isinstance(value, float) and 0 < value < 1):
        raise ConfigError(f"data.{key} must be a number of images or a fraction between 0 and 1, got {value!r}")


def is_whole(value: Any, least: int) -> bool:
    """Whether ``value`` is an integer of at least ``least``; booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
