"""Autoencoders that were trained elsewhere, with the networks of diffusers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import create, one_of
from vaezoo.models.ae import AE
from vaezoo.models.base import Autoencoder
from vaezoo.models.quantized import QuantizedAutoencoder
from vaezoo.models.vae import VAE
from vaezoo.nn.likelihoods import FittedGaussian
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.pretrained_networks import LOGVAR_RANGE, digest, make_network, split
from vaezoo.training.terms import Terms, Weights


class Pretrained(Autoencoder):
    """An autoencoder of diffusers that was trained elsewhere, and is not trained here.

    It has no objective of its own: what validation calls its loss is recon plus its rate. Codes are those that its
    networks give: the factor by which a diffusion model scales them is not applied.

    Args:
        network: its class in diffusers; network_options: the arguments of that, as in its ``config.json``.
        name: what it is called in comparisons.
        sha256: of its weights, see ``vaezoo.nn.pretrained_networks.digest``.
        likelihood_options: the ``sigma`` of a Gaussian likelihood, which was fitted to validation images afterwards.
    """

    def __init__(
        self,
        *,
        network: str,
        network_options: dict[str, Any],
        name: str,
        sha256: str,
        latent_dim: int | None = None,
        likelihood: str = FittedGaussian.name,
        likelihood_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(
            network=network,
            latent_dim=latent_dim,
            likelihood=likelihood,
            likelihood_options=likelihood_options,
            **shared,
        )

    def _check_network(self, network: str) -> None:
        one_of(network, self.networks, "model.network")  # whose options are its own

    def make_likelihood(self, name: str, options: dict[str, Any] | None) -> FittedGaussian:
        return create("model.likelihood", {FittedGaussian.name: FittedGaussian}, name, options)

    def _make_networks(
        self, network: str, widths: list[int] | None, latent_dim: int | None, code_channels: int | None
    ) -> None:
        self.take(make_network(network, self.hparams["network_options"]))

    def take(self, network: Any) -> None:
        """Encode and decode with an autoencoder of diffusers from now on."""
        self.encoder, self.decoder, self.code_shape, quantizer = split(network, self.image_shape)
        self.latent_dim = self.code_shape[0] * self.code_shape[1] * self.code_shape[2]
        if quantizer is not None:
            self.add_module("quantizer", quantizer)
        self.make_posterior(self.code_shape[0])

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        found = super().load_state_dict(state_dict, strict, assign)
        if (now := digest(self.state_dict())) != self.hparams["sha256"]:
            raise ConfigError(
                f"its weights are not those of {self.hparams['name']} that were adopted, because their SHA-256 starts"
                f" with {now[:16]}, not {str(self.hparams['sha256'])[:16]}; adopt the folder again"
            )
        return found

    def setup(self, stage: str) -> None:
        if stage == "fit":
            raise ConfigError(
                f"{self.hparams['name']} was trained elsewhere and is not trained here; evaluate it, or train another"
                " model beside it"
            )
        super().setup(stage)

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon + terms.rate if terms.has_rate else terms.recon

    def main_formula(self) -> str:
        return "trained elsewhere"

    def explain_weights(self) -> list[str]:
        return []


class PretrainedAE(Pretrained, AE):
    """A deterministic autoencoder of diffusers: TAESD, or a deep compression autoencoder (Chen et al., 2025)."""

    networks = ("AutoencoderTiny", "AutoencoderDC")


class PretrainedVAE(Pretrained, VAE):
    """The autoencoder of a latent diffusion model (Rombach et al., 2022), with its diagonal posteriors."""

    networks = ("AutoencoderKL",)

    def make_posterior(self, dimensions: int) -> None:
        self.posterior_model = make_posterior_model("diagonal", dimensions, {"logvar_range": LOGVAR_RANGE})


class PretrainedVQVAE(Pretrained, QuantizedAutoencoder):
    """A vector-quantised autoencoder of diffusers, such as MoVQ, with the indices of its codes."""

    networks = ("VQModel",)

    def take(self, network: Any) -> None:
        super().take(network)
        self.grid_shape = self.code_shape[1:]
        self.code_shape, self.index_layout = self.quantizer.lay_out(*self.grid_shape)


CLASSES: Mapping[str, type[Pretrained]] = {
    name: cls for cls in (PretrainedAE, PretrainedVAE, PretrainedVQVAE) for name in cls.networks
}
"""Models by the name of their class in diffusers: the only ones that are read from a folder."""
