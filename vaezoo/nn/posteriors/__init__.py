"""Posterior distributions q(z|x) over codes."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import POSTERIORS
from vaezoo.config.validation import create
from vaezoo.nn.posteriors.base import PosteriorModel
from vaezoo.nn.posteriors.flows import InverseAutoregressive, PlanarFlow, RadialFlow
from vaezoo.nn.posteriors.gaussian import Diagonal, Full
from vaezoo.nn.posteriors.spherical import PowerSphericalFamily, VonMisesFisherFamily

_FAMILIES: tuple[type[PosteriorModel], ...] = (
    Diagonal,
    Full,
    PlanarFlow,
    RadialFlow,
    InverseAutoregressive,
    PowerSphericalFamily,
    VonMisesFisherFamily,
)
_CLASSES = dict(zip(POSTERIORS, _FAMILIES, strict=True))


def make_posterior_model(name: str, latent_dim: int, options: Mapping[str, Any] | None = None) -> PosteriorModel:
    """The family called ``name`` for codes of ``latent_dim`` dimensions, or channels if they are spatial.

    ``options`` are its arguments. ConfigError for an unknown name or option.
    """
    return create("model.posterior", _CLASSES, name, options, latent_dim=latent_dim)
