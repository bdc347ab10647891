"""Penalties that are added to a training objective."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import PENALTIES
from vaezoo.config.validation import create
from vaezoo.nn.penalties.adversarial import Adversarial, CriticTC
from vaezoo.nn.penalties.aggregate import DIP, MMD, SlicedWasserstein, TotalCorrelation
from vaezoo.nn.penalties.base import Penalty
from vaezoo.nn.penalties.images import SSIM

_CLASSES: dict[str, type[Penalty]] = dict(
    zip(PENALTIES, (TotalCorrelation, CriticTC, DIP, MMD, SlicedWasserstein, SSIM, Adversarial), strict=True)
)


def make_penalty(name: str, latent_dim: int, options: Mapping[str, Any] | None = None) -> Penalty:
    """The penalty called ``name`` on codes of ``latent_dim`` numbers; ConfigError for an unknown name or option."""
    return create("model.penalty", _CLASSES, name, options, latent_dim=latent_dim)
