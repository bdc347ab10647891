"""What a model's data are, by their shape (C, H, W): images, or rows of a table as (1, 1, D)."""

from collections.abc import Sequence

from vaezoo.config.errors import ConfigError

NOT_IMAGES = "the data are rows of a table, not images"
"""Why something that needs images is not there."""


def is_table(shape: Sequence[int]) -> bool:
    """Whether data of this shape are rows of a table, D standardised columns with any values: no image is so flat."""
    return tuple(shape[:2]) == (1, 1)


def refuse_table(shape: Sequence[int], setting: str, remedy: str) -> None:
    """ConfigError, naming the ``setting`` that is for images and a ``remedy``, if the data are rows of a table."""
    if is_table(shape):
        raise ConfigError(f"{setting} is for images, and the data are rows of a table; {remedy}")
