"""The zoo: one module per variant, their base class, loading, and model cards."""

from vaezoo.models.ae import AE
from vaezoo.models.base import Autoencoder
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.models.categorical_vae import CategoricalVAE
from vaezoo.models.conv_vae import ConvVAE
from vaezoo.models.factor_vae import FactorVAE
from vaezoo.models.hierarchical_vae import HierarchicalVAE
from vaezoo.models.iwae import IWAE
from vaezoo.models.joint_vae import JointVAE
from vaezoo.models.ladder_vae import LadderVAE
from vaezoo.models.top_down_vae import TopDownVAE
from vaezoo.models.vae import VAE
from vaezoo.models.vamp_vae import VampVAE
from vaezoo.models.vqvae import VQVAE

__all__ = [
    "AE",
    "IWAE",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "BetaVAE",
    "CategoricalVAE",
    "ConvVAE",
    "FactorVAE",
    "HierarchicalVAE",
    "JointVAE",
    "LadderVAE",
    "TopDownVAE",
    "VampVAE",
]
