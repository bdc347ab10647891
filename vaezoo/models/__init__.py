"""The zoo: one module per variant, their base class, loading, and model cards."""

from vaezoo.models.adversarial_ae import AdversarialAE
from vaezoo.models.ae import AE
from vaezoo.models.autoencoder_kl import AutoencoderKL
from vaezoo.models.base import Autoencoder
from vaezoo.models.beta_tc_vae import BetaTCVAE
from vaezoo.models.beta_vae import BetaVAE
from vaezoo.models.categorical_vae import CategoricalVAE
from vaezoo.models.ciwae import CIWAE
from vaezoo.models.conditional_vae import ConditionalVAE
from vaezoo.models.contractive_ae import ContractiveAE
from vaezoo.models.conv_vae import ConvVAE
from vaezoo.models.denoising_ae import DenoisingAE
from vaezoo.models.denoising_vae import DenoisingVAE
from vaezoo.models.dip_vae import DIPVAE
from vaezoo.models.factor_vae import FactorVAE
from vaezoo.models.flow_vae import FlowVAE
from vaezoo.models.fsq_vae import FSQVAE
from vaezoo.models.hierarchical_vae import HierarchicalVAE
from vaezoo.models.iaf_vae import IAFVAE
from vaezoo.models.info_vae import InfoVAE
from vaezoo.models.iwae import IWAE
from vaezoo.models.joint_vae import JointVAE
from vaezoo.models.ladder_vae import LadderVAE
from vaezoo.models.miwae import MIWAE
from vaezoo.models.piwae import PIWAE
from vaezoo.models.rae import RAE
from vaezoo.models.rvq_vae import RVQVAE
from vaezoo.models.sliced_wae import SlicedWAE
from vaezoo.models.soft_intro_vae import SoftIntroVAE
from vaezoo.models.sparse_ae import SparseAE
from vaezoo.models.spherical_vae import SphericalVAE
from vaezoo.models.top_down_vae import TopDownVAE
from vaezoo.models.vae import VAE
from vaezoo.models.vae_gan import VAEGAN
from vaezoo.models.vamp_vae import VampVAE
from vaezoo.models.vqgan import VQGAN
from vaezoo.models.vqvae import VQVAE
from vaezoo.models.vqvae2 import VQVAE2
from vaezoo.models.wae import WAE

__all__ = [
    "AE",
    "CIWAE",
    "DIPVAE",
    "FSQVAE",
    "IAFVAE",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "RAE",
    "RVQVAE",
    "VAE",
    "VAEGAN",
    "VQGAN",
    "VQVAE",
    "VQVAE2",
    "WAE",
    "AdversarialAE",
    "Autoencoder",
    "AutoencoderKL",
    "BetaTCVAE",
    "BetaVAE",
    "CategoricalVAE",
    "ConditionalVAE",
    "ContractiveAE",
    "ConvVAE",
    "DenoisingAE",
    "DenoisingVAE",
    "FactorVAE",
    "FlowVAE",
    "HierarchicalVAE",
    "InfoVAE",
    "JointVAE",
    "LadderVAE",
    "SlicedWAE",
    "SoftIntroVAE",
    "SparseAE",
    "SphericalVAE",
    "TopDownVAE",
    "VampVAE",
]
