"""The families of posteriors by name."""

from collections.abc import Mapping
from typing import Any

from vaezoo.config.choices import POSTERIORS
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_arguments, parameters
from vaezoo.nn.flow_posteriors import InverseAutoregressive, PlanarFlow, RadialFlow
from vaezoo.nn.posteriors import Diagonal, Full, PosteriorModel
from vaezoo.nn.sphere_posteriors import PowerSphericalFamily, VonMisesFisherFamily

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
    if name not in _CLASSES:
        raise ConfigError(f"model.posterior must be one of {', '.join(POSTERIORS)}, got {name!r}")
    options, cls = dict(options or {}), _CLASSES[name]
    check_arguments(cls, options, key="model.posterior_options", extra=("latent_dim",))
    sizes = {"latent_dim": latent_dim} if "latent_dim" in parameters(cls) else {}
    return cls(**sizes, **options)
