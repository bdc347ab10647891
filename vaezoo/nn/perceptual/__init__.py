"""Perceptual distances between images and their reconstructions."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import PERCEPTUAL
from vaezoo.config.shapes import refuse_table
from vaezoo.config.validation import create
from vaezoo.nn.networks import ImageShape
from vaezoo.nn.perceptual.base import PerceptualDistance
from vaezoo.nn.perceptual.labels import LabelFeatures
from vaezoo.nn.perceptual.lite0 import Lite0
from vaezoo.nn.perceptual.lpips import LPIPSVGG, LPIPSAlex
from vaezoo.nn.perceptual.structural import MSSSIM

_ALL: tuple[type[PerceptualDistance], ...] = (Lite0, LPIPSVGG, LPIPSAlex, MSSSIM, LabelFeatures)
_CLASSES = dict(zip(PERCEPTUAL, _ALL, strict=True))


def make_perceptual(name: str, image_shape: ImageShape, options: Mapping[str, Any] | None = None) -> PerceptualDistance:
    """The distance called ``name`` between images of that shape; ConfigError for an unknown name or option."""
    refuse_table(image_shape, f"model.perceptual={name}", "set it to null")
    return create("model.perceptual", _CLASSES, name, options, image_shape=image_shape)
