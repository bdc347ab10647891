"""The zoo: one module per variant, their base class, loading, and model cards."""

from vaezoo.models.ae import AE
from vaezoo.models.base import Autoencoder
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.models.contractive_ae import ContractiveAE
from vaezoo.models.conv_vae import ConvVAE
from vaezoo.models.denoising_ae import DenoisingAE
from vaezoo.models.denoising_vae import DenoisingVAE
from vaezoo.models.factor_vae import FactorVAE
from vaezoo.models.iwae import IWAE
from vaezoo.models.rae import RAE
from vaezoo.models.sparse_ae import SparseAE
from vaezoo.models.vae import VAE
from vaezoo.models.vamp_vae import VampVAE
from vaezoo.models.vqvae import VQVAE

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
    "SparseAE",
    "VampVAE",
]
