"""The VAE that compares images by the features of a discriminator."""

from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above
from vaezoo.models.vae import VAE
from vaezoo.nn.critics import scale_gradient
from vaezoo.nn.penalties.base import own_draws
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.training.terms import Terms, Weights

GAN = {"weight": 1.0, "start": 0, "loss": "nonsaturating", "balance": "none", "lr": 1e-4}
"""Defaults of the discriminator; at 1e-3 its features change faster than the decoder can follow."""


class VAEGAN(VAE):
    """VAE whose reconstructions are compared by features of a discriminator instead of pixels (Larsen et al., 2016).

    The encoder minimises kl + features, the decoder ``gamma`` features + generator, and the critic its loss on images,
    reconstructions and samples: gradients are scaled and stopped, in one sum. ``features`` is -log N(D_l(x); D_l(y), I)
    without its constant, with D_l all layers of the critic but the last. ``recon`` is evaluated, and fits parameters of
    the likelihood, such as a learned sigma, but trains neither encoder nor decoder.

    Raises:
        ConfigError: ``gamma`` is not positive, there is no discriminator, or another bound than the ELBO is set.
    """

    def __init__(
        self,
        *,
        gamma: float = 0.1,
        discriminator: str | None = "patches",
        discriminator_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        if discriminator is None:
            raise ConfigError("VAEGAN compares images by a discriminator; set model.discriminator=patches, got null")
        options = {**GAN, **(discriminator_options or {})}
        super().__init__(discriminator=discriminator, discriminator_options=options, **shared)
        above(gamma, 0, "model.gamma")
        if self.bound.needs_weights or self.free_bits is not None:
            raise ConfigError("model.gamma weighs features beside the exact KL; set model.bound=elbo and no free_bits")
        self.gamma = gamma

    def seen_by_decoder(self, code: Tensor) -> Tensor:
        return scale_gradient(code, 1 / self.gamma)

    def fakes(self, code: Tensor, prior: Prior | None) -> Tensor:
        assert prior is not None
        return self.likelihood.mean(self.outputs(torch.cat([code.detach(), own_draws(prior, code)])))

    def penalise(
        self,
        terms: Terms,
        x: Tensor,
        outputs: Tensor,
        code: Tensor,
        posterior: Posterior | None = None,
        prior: Prior | None = None,
    ) -> None:
        assert self.discriminator is not None
        terms.recon = self.likelihood.nll(x, outputs.detach())
        outputs = scale_gradient(outputs, self.gamma)
        ours, theirs = (self.discriminator.features(images) for images in (x, self.likelihood.mean(outputs)))
        terms.penalties["features"] = 0.5 * (ours - theirs).square().flatten(1).sum(1)
        super().penalise(terms, x, outputs, code, posterior, prior)

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        fit_of_likelihood = terms.recon - terms.recon.detach()
        return terms.rate + terms.penalties["features"] + fit_of_likelihood

    def main_formula(self) -> str:
        return f"kl + features (encoder) + {self.gamma:g} features (decoder)"
