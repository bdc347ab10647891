"""The autoencoder of latent diffusion models."""

from typing import Any

from vaezoo.models.beta_vae import BetaVAE
from vaezoo.nn.posteriors import make_posterior_model

LOGVAR_RANGE = [-30.0, 20.0]
"""Ends of the log variances of diagonal posteriors, unless others are given."""


class AutoencoderKL(BetaVAE):
    """Spatial VAE with a tiny weight of the KL, whose codes a diffusion model is to learn (Rombach et al., 2022).

    It minimises recon + beta kl + weight ratio generator, and a perceptual distance where one is set. The likelihood is
    a Laplace distribution of scale 1/2, which is the absolute error of pixels in [-1, 1]; the discriminator of patches
    is weighed by gradients at the decoder's last layer, and starts after a tenth of the run. With such a weight of the
    KL, codes are nearly those of a deterministic autoencoder: compare the ELBO, which is at beta = 1, with care.
    """

    def __init__(
        self,
        *,
        latent_dim: int | None = None,
        code_channels: int | None = 4,
        network: str = "resnet",
        likelihood: str = "laplace",
        likelihood_options: dict[str, Any] | None = None,
        beta: float = 1e-6,
        discriminator: str | None = "patches",
        **shared: Any,
    ) -> None:
        of_likelihood = {"scale": 0.5} if likelihood == "laplace" else None
        super().__init__(
            latent_dim=latent_dim,
            code_channels=code_channels,
            network=network,
            likelihood=likelihood,
            likelihood_options=of_likelihood if likelihood_options is None else likelihood_options,
            beta=beta,
            discriminator=discriminator,
            **shared,
        )

    def make_posterior(self, dimensions: int) -> None:
        if (self.hparams["posterior"], self.hparams["posterior_options"]) == ("diagonal", None):
            self.posterior_model = make_posterior_model("diagonal", dimensions, {"logvar_range": LOGVAR_RANGE})
        else:
            super().make_posterior(dimensions)
