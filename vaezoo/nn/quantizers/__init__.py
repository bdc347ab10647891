"""Quantisers: grids of vectors to grids of codes from a finite set, with indices and a gradient estimator."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import QUANTIZERS
from vaezoo.config.validation import create
from vaezoo.nn.quantizers.base import Quantizer
from vaezoo.nn.quantizers.binary import BinarySphericalQuantizer, LookupFreeQuantizer
from vaezoo.nn.quantizers.finite import FiniteScalarQuantizer
from vaezoo.nn.quantizers.gumbel import GumbelQuantizer
from vaezoo.nn.quantizers.linear import LinearCodebookQuantizer
from vaezoo.nn.quantizers.residual import ResidualQuantizer
from vaezoo.nn.quantizers.vector import VectorQuantizer

_CLASSES: dict[str, type[Quantizer]] = dict(
    zip(
        QUANTIZERS,
        (
            VectorQuantizer,
            ResidualQuantizer,
            FiniteScalarQuantizer,
            LookupFreeQuantizer,
            BinarySphericalQuantizer,
            LinearCodebookQuantizer,
            GumbelQuantizer,
        ),
        strict=True,
    )
)


def make_quantizer(name: str, channels: int | None = None, options: Mapping[str, Any] | None = None) -> Quantizer:
    """The quantiser called ``name`` with codes of so many channels; None for as many as it has by default.

    ConfigError for an unknown name or option, or channels that do not agree with the options.
    """
    return create("model.quantizer", _CLASSES, name, options, channels=channels)
