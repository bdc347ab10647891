"""The VAE whose encoder and decoder play against each other."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above, at_least
from vaezoo.models.vae import VAE
from vaezoo.nn.penalties.base import own_draws
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.training.terms import Terms, Weights

WIDE: dict[str, dict[str, float]] = {
    "gaussian": {"sigma": 0.5**0.5},
    "laplace": {"scale": 0.5},
    "log_cosh": {"scale": 0.5},
}
"""Options of likelihoods unless others are given, with which recon is never negative.

The Gaussian's is (x - y)^2 and a constant."""


class SoftIntroVAE(VAE):
    """VAE whose encoder gives decoded images a low ELBO, which the decoder raises (Daniel and Tamar, 2021).

    Of images y decoded from codes of the batch and from draws of the prior, the encoder minimises recon + beta kl +
    P exp_elbo / 2, with exp_elbo = mean_y exp(-2 (recon(y) + beta_neg kl(y)) / P) for P pixels and channels, and y
    held constant; the decoder recon + beta kl_decoded, with kl_decoded = mean_y kl(y), through the encoder as it is.
    That is the published objective times P, in nats, but for the Gaussian's constant, log(pi) / 2 a pixel, which makes
    exp_elbo 1 / pi of the published one. Both take their step at the same time, from one sum in which the other is
    frozen, where the published code updates the encoder first. The ELBO of validation is that of the VAE, and says
    little of samples, so the last weights are used. It is fragile: samples can get better or worse than a VAE's.

    Args:
        beta: weight of the KL of images, for the encoder, and of decoded images, for the decoder.
        beta_neg: weight of the KL of decoded images in exp_elbo.
        gamma: weight of the decoder's recon of decoded images; 0 spares the pass, and the paper's 1e-8 is lost in
            float32.

    Raises:
        ConfigError: a weight out of range, a likelihood whose recon can be negative, of which the exponential has no
            bound, another posterior, prior or bound than those of a VAE, or batch norm, in which real and decoded
            images would mix.
    """

    selection = None  # the ELBO says nothing of samples
    elbo_only = "its encoder and decoder need the exact KL"

    def __init__(
        self,
        *,
        beta: float = 1.0,
        beta_neg: float = 256.0,
        gamma: float = 0.0,
        likelihood: str = "gaussian",
        likelihood_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        options = WIDE.get(likelihood) if likelihood_options is None else likelihood_options
        super().__init__(likelihood=likelihood, likelihood_options=options, **shared)
        above(beta, 0, "model.beta")
        for name, value in {"beta_neg": beta_neg, "gamma": gamma}.items():
            at_least(value, 0, f"model.{name}")
        self.beta, self.beta_neg, self.gamma = beta, beta_neg, gamma
        self._refuse_families()
        self._refuse_parts_of_two_players()

    def _refuse_parts_of_two_players(self) -> None:
        """ConfigError for parts with which the two objectives have no bound or leak."""
        if self.likelihood.highest > 1:
            raise ConfigError(
                f"SoftIntroVAE needs a likelihood whose recon is never negative, unlike {self.likelihood.describe()};"
                " set model.likelihood=bernoulli or discretized_logistic, or gaussian with a sigma of at least 0.4"
            )
        if self.free_bits is not None:
            raise ConfigError("SoftIntroVAE has no floor for its KL; set model.free_bits=null")
        if any(isinstance(module, _BatchNorm) for module in self.modules()):
            raise ConfigError("SoftIntroVAE mixes real and decoded images in batch norm; use group norm instead")

    def kl_of(self, images: Tensor) -> Tensor:
        """KL of the posterior of each image from the prior, in nats: (B, C, H, W) -> (B,)."""
        posterior = self.posterior(images)
        return posterior.kl(self.prior(), posterior.draw()).sum(1)

    def penalise(
        self,
        terms: Terms,
        x: Tensor,
        outputs: Tensor,
        code: Tensor,
        posterior: Posterior | None = None,
        prior: Prior | None = None,
    ) -> None:
        assert prior is not None
        decoded = self.likelihood.mean(self.outputs(torch.cat([code.detach(), own_draws(prior, code)])))
        found, others = (self._of_decoded(images, prior) for images in decoded.chunk(2))  # a draw is for one batch
        terms.penalties |= {name: 0.5 * (term + others[name]) for name, term in found.items()}
        super().penalise(terms, x, outputs, code, posterior, prior)

    def _of_decoded(self, images: Tensor, prior: Prior) -> dict[str, Tensor]:
        """The terms of decoded images (B, C, H, W), (B,) each."""
        seen = images.detach()
        posterior = self.posterior(seen)
        drawn = posterior.draw()
        cost = self.call_frozen("nll", seen, drawn.first) + self.beta_neg * posterior.kl(prior, drawn).sum(1)
        found = {"exp_elbo": (-2 / self.pixels * cost).exp(), "kl_decoded": self.call_frozen("kl_of", images)}
        return found | ({"recon_decoded": self.nll(seen, drawn.first.detach())} if self.gamma else {})

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        found = terms.penalties
        of_decoder = self.beta * found["kl_decoded"]
        if self.gamma:
            of_decoder = of_decoder + self.gamma * found["recon_decoded"]
        return terms.recon + self.beta * terms.rate + 0.5 * self.pixels * found["exp_elbo"] + of_decoder

    def main_formula(self) -> str:
        beta = "" if self.beta == 1 else f"{self.beta:g} "
        of_decoder = f" + {self.gamma:g} recon_decoded" if self.gamma else ""
        half = f"{0.5 * self.pixels:g}"
        return f"recon + {beta}kl + {half} exp_elbo (encoder) + {beta}kl_decoded{of_decoder} (decoder)"
