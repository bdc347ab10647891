"""Discriminators: critics that tell decoded from real images, against which a model is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from vaezoo.config.choices import DISCRIMINATORS
from vaezoo.config.shapes import refuse_table
from vaezoo.config.validation import create
from vaezoo.nn.discriminators.base import Discriminator
from vaezoo.nn.discriminators.patches import Patches

_CLASSES: dict[str, type[Discriminator]] = dict(zip(DISCRIMINATORS, (Patches,), strict=True))


def make_discriminator(
    name: str, image_shape: Sequence[int], options: Mapping[str, Any] | None = None
) -> Discriminator:
    """The discriminator called ``name`` of images (C, H, W); ConfigError for an unknown name or option."""
    refuse_table(image_shape, f"model.discriminator={name}", "set it to null, or choose another model")
    return create("model.discriminator", _CLASSES, name, options, image_shape=image_shape)
