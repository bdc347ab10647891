"""The variational autoencoder."""

import torch
from torch import Tensor

from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.models.base import Autoencoder
from vaezoo.nn.posteriors import DiagonalGaussian
from vaezoo.training.terms import Terms, Weights


class VAE(Autoencoder):
    """VAE with a Gaussian posterior, trained on the evidence lower bound (Kingma and Welling, 2014, equation 10)."""

    features_per_dimension = 2
    selection = ("val/elbo", "max")
    beta = 1.0
    """Weight of the KL in the objective."""

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean, logvar = self.features(x).chunk(2, dim=1)
        return DiagonalGaussian(mean, logvar)

    def loss_terms(self, x: Tensor) -> Terms:
        posterior = self.posterior(x)
        recon = self.nll(x, posterior.sample())
        return Terms(recon, kl=posterior.kl(), code=posterior.mean)

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon + terms.rate

    def formula(self) -> str:
        return "recon + kl"

    def explain_weights(self) -> list[str]:
        beta, unit = self.beta, "nat" if self.beta == 1 else "nats"
        return [
            f"beta {beta:g}: a nat of KL, summed over {self.latent_dim} dimensions, costs as much as {beta:g} {unit}"
            f" of recon, summed over {self.pixels:,} pixels",
            f"equivalent beta for a loss averaged over pixels: {beta / self.pixels:.4g};"
            f" averaged over pixels and dimensions (beta_norm): {beta * self.latent_dim / self.pixels:.4g}",
        ]

    def log_prior(self, code: Tensor) -> Tensor:
        """Log density of the standard normal prior, in nats: (B, D) -> (B,)."""
        return gaussian_log_prob(code, torch.zeros_like(code), torch.zeros_like(code)).sum(1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Images decoded from draws of N(0, I), without gradients: (count, C, H, W)."""
        device = generator.device if generator is not None else self.device
        return self.decode(torch.randn(count, self.latent_dim, generator=generator, device=device).to(self.device))
