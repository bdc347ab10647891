"""Validation of data settings; all functions raise ConfigError for invalid values."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError
from vaezoo.config.own_code import is_own
from vaezoo.data.fitting import FITS
from vaezoo.data.levels import Levels
from vaezoo.data.pixels import BINARIZE, Shape
from vaezoo.data.sources import NAMES, OF_ARRAYS
from vaezoo.data.sprites import IMAGE_SHAPE as SPRITE_SHAPE

WITH_RANGE = ("image_folder", *OF_ARRAYS)
"""Sources of images with any range of values."""
WITH_KEYS = (*OF_ARRAYS, "table")
"""Sources whose arrays or columns have names."""
SMALLEST_SIDE, LARGEST_SIDE = 8, 2**14
MOST_WORKERS = 1024
"""Maximum of ``data.num_workers``."""


def checked_shape(image_size: int | list[int] | None, channels: int | None, source: str) -> Shape:
    """(channels, height, width), from an ``image_size`` that is a number or [height, width]; else ConfigError."""
    if image_size is None or channels is None:
        missing = "image_size" if image_size is None else "channels"
        raise ConfigError(f"data.{missing} is needed with data.source={source}; set a number")
    sides = list(image_size) if isinstance(image_size, list | tuple) else [image_size, image_size]
    if len(sides) != 2 or not all(is_whole(side, SMALLEST_SIDE) and side <= LARGEST_SIDE for side in sides):
        raise ConfigError(
            f"data.image_size must be a whole number from {SMALLEST_SIDE} up, or two as [height, width], none above"
            f" {LARGEST_SIDE}, got {image_size!r}"
        )
    if source in OF_ARRAYS:
        check_whole("channels", channels, 1, LARGEST_SIDE)
    else:
        check_choice("channels", channels, (1, 3))
    shape = (channels, sides[0], sides[1])
    if source == "sprites" and shape != SPRITE_SHAPE:
        raise ConfigError(
            f"sprites are drawn with data.channels=1 and data.image_size=64 only, got {channels} and {image_size!r}"
        )
    return shape


def check_table(settings: Mapping[str, Any]) -> None:
    """ConfigError for settings of images, by name, that differ from what they are for tables."""
    for key, (value, default) in settings.items():
        if value != default:
            raise ConfigError(f"data.{key} is for images, got {value!r} with data=table; leave it out")


def check_columns(source: str, columns: Any, mean: Any, std: Any) -> None:
    """ConfigError unless ``columns`` are names, and they, ``mean`` and ``std`` are None without a table."""
    for key, value in (("columns", columns), ("mean", mean), ("std", std)):
        if value is not None and source != "table":
            raise ConfigError(f"data.{key} is for data=table, got {value!r} with data.source={source}; leave it out")
    names = columns if isinstance(columns, list | tuple) else ()
    if columns is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ConfigError(f"data.columns must be null or a list of names of columns, got {columns!r}")
    if len(set(names)) < len(names):
        raise ConfigError(f"data.columns names a column twice: {', '.join(names)}; name each once")


def check_names(source: str, dataset: Any, binarize: str) -> None:
    """ConfigError for impossible values of ``source``, ``dataset`` and ``binarize``."""
    check_choice("source", source, NAMES)
    check_choice("binarize", binarize, BINARIZE)
    if source == "own" and isinstance(dataset, str | None) and not is_own(dataset):
        raise ConfigError(
            f"data.dataset must name a class or function of yours as package.module:name with data=own, got {dataset!r}"
        )
    if (source in ("torchvision", "own")) != (dataset is not None):
        raise ConfigError(
            "data.dataset names a class and applies only to data.source=torchvision and own, got"
            f" {dataset!r} with data.source={source}"
        )


def check_options(source: str, options: Any) -> None:
    """ConfigError for ``dataset_options`` of a source that takes none."""
    if options is not None and source != "own":
        raise ConfigError(f"data.dataset_options are for data=own, got {options!r} with data.source={source}")


def default_name(source: str, dataset: Any, place: Path) -> str:
    """The name of a data set in tables: that of the torchvision class, the user's class or file, or the source."""
    if source == "own":
        return dataset.rpartition(":")[2] if isinstance(dataset, str) else type(dataset).__name__
    return place.stem if source in WITH_KEYS else str(dataset or source)


def check_keys(key: Any, label_key: Any, source: str) -> None:
    """ConfigError for impossible values of ``key`` and ``label_key``."""
    for name, value in (("key", key), ("label_key", label_key)):
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigError(f"data.{name} must be the name of an array, got {value!r}")
        if value is not None and source not in WITH_KEYS:
            raise ConfigError(
                f"data.{name} names an array or a column, for data={', '.join(WITH_KEYS)}, got {value!r} with"
                f" data.source={source}; leave it out"
            )


def check_fit(fit: Any, levels: Any, source: str) -> None:
    """ConfigError for impossible values of ``fit`` and ``range``."""
    check_choice("fit", fit, FITS)
    if levels not in ("auto", "full") and not _is_range(levels):
        raise ConfigError(
            "data.range must be auto, full or [LOW,HIGH], two numbers of which the second is larger, for the levels"
            f" that become black and white, got {levels!r}"
        )
    if source not in WITH_RANGE and levels != "auto":
        raise ConfigError(
            f"data.range is for your own images ({', '.join(WITH_RANGE)}), got {levels!r} with"
            f" data.source={source}; leave it out"
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
