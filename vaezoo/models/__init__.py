"""The zoo: one module per variant, their base class, loading, and model cards."""

from vaezoo.models.ae import AE
from vaezoo.models.base import Autoencoder
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.models.ciwae import CIWAE
from vaezoo.models.conditional_vae import ConditionalVAE
from vaezoo.models.conv_vae import ConvVAE
from vaezoo.models.factor_vae import FactorVAE
from vaezoo.models.iwae import IWAE
from vaezoo.models.miwae import MIWAE
from vaezoo.models.piwae import PIWAE
from vaezoo.models.vae import VAE
from vaezoo.models.vamp_vae import VampVAE
from vaezoo.models.vqvae import VQVAE

__all__ = [
    "AE",
    "CIWAE",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "BetaVAE",
    "ConditionalVAE",
    "ConvVAE",
    "FactorVAE",
    "VampVAE",
]
