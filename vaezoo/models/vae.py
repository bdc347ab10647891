"""The variational autoencoder."""

import torch
from torch import Tensor

from vaezoo.losses import Terms
from vaezoo.models.base import Autoencoder
from vaezoo.posteriors import DiagonalGaussian


class VAE(Autoencoder):
    """Maps each image to a Gaussian, and maximises the evidence lower bound (Kingma and Welling, 2014, equation 10)."""

    features_per_dimension = 2
    selection = ("val/elbo", "max")

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean, logvar = self.encoder(x).float().chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar)

    def loss_terms(self, x: Tensor) -> Terms:
        posterior = self.posterior(x)
        outputs = self.decoder(posterior.sample()).float()
        return Terms(recon=-self.likelihood.log_prob(x, outputs), kl=posterior.kl())

    def objective(self, terms: Terms) -> Tensor:
        return terms.recon + terms.kl.sum(1)

    def formula(self) -> str:
        return "recon + kl"

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded draws from the standard normal prior: (count, C, H, W)."""
        device = generator.device if generator is not None else self.device
        return self.decode(torch.randn(count, self.latent_dim, generator=generator, device=device).to(self.device))
