"""Quantisers: grids of vectors to grids of codes from a finite set, with indices and a gradient estimator."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import QUANTIZERS
from vaezoo.config.validation import create
from vaezoo.nn.quantizers.base import Quantizer
from vaezoo.nn.quantizers.vector import VectorQuantizer

_CLASSES: dict[str, type[Quantizer]] = dict(zip(QUANTIZERS, (VectorQuantizer,), strict=True))


def make_quantizer(name: str, channels: int, options: Mapping[str, Any] | None = None) -> Quantizer:
    """The quantiser called ``name`` of vectors with ``channels``; ConfigError for an unknown name or option."""
    return create("model.quantizer", _CLASSES, name, options, channels=channels)
