"""vaezoo: train, understand and compare autoencoders fairly."""

from importlib import import_module

from vaezoo.config import VERSION as __version__

TYPE_CHECKING = False  # type checkers treat this as True; importing typing takes longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from vaezoo.data import ImageDataModule
    from vaezoo.models import (
        AE,
        IWAE,
        RAE,
        VAE,
        VQVAE,
        Autoencoder,
        BetaVAE,
        ContractiveAE,
        ConvVAE,
        DenoisingAE,
        DenoisingVAE,
        FactorVAE,
        SparseAE,
        VampVAE,
    )
    from vaezoo.models.loading import Run, load

# Imported on first access, so that `import vaezoo` and the command line start without importing torch.
_MODELS = (
    "AE",
    "IWAE",
    "RAE",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "BetaVAE",
    "ContractiveAE",
    "ConvVAE",
    "DenoisingAE",
    "DenoisingVAE",
    "FactorVAE",
    "SparseAE",
    "VampVAE",
)
_HOME = {
    **dict.fromkeys(_MODELS, "vaezoo.models"),
    "ImageDataModule": "vaezoo.data",
    "Run": "vaezoo.models.loading",
    "load": "vaezoo.models.loading",
}

__all__ = [
    "AE",
    "IWAE",
    "RAE",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "BetaVAE",
    "ContractiveAE",
    "ConvVAE",
    "DenoisingAE",
    "DenoisingVAE",
    "FactorVAE",
    "ImageDataModule",
    "Run",
    "SparseAE",
    "VampVAE",
    "__version__",
    "load",
]


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        raise AttributeError(f"module 'vaezoo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
