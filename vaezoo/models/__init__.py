"""The zoo: one module per variant, their base class, loading, and model cards."""

from vaezoo.models.ae import AE
from vaezoo.models.base import Autoencoder
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.models.conv_vae import ConvVAE
from vaezoo.models.vae import VAE

__all__ = ["AE", "VAE", "Autoencoder", "BetaVAE", "ConvVAE"]
