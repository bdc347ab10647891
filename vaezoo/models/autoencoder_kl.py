"""The autoencoder of latent diffusion models."""

import logging
from typing import Any

from torch import Tensor

from vaezoo.models.beta_vae import BetaVAE
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.training.terms import Terms

log = logging.getLogger(__name__)

LOGVAR_RANGE = [-30.0, 20.0]
"""Ends of the log variances of diagonal posteriors, unless others are given."""
AT_BOUND = 0.001
"""Share of log variances at a bound, where they have no gradient, beyond which there is a warning."""


class AutoencoderKL(BetaVAE):
    """Spatial VAE with a tiny weight of the KL, whose codes a diffusion model is to learn (Rombach et al., 2022).

    The likelihood is a Laplace distribution of scale 1/2, which is the absolute error of pixels in [-1, 1]. With such a
    weight, codes are nearly those of a deterministic autoencoder: compare the ELBO, which is at beta = 1, with care.

    ``logvar_at_bound`` is logged if ``posterior_options`` has a ``logvar_range``: the share of log variances at its
    ends. It is not part of the objective.
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
            **shared,
        )
        self._warned = False

    def make_posterior(self, dimensions: int) -> None:
        if (self.hparams["posterior"], self.hparams["posterior_options"]) == ("diagonal", None):
            self.posterior_model = make_posterior_model("diagonal", dimensions, {"logvar_range": LOGVAR_RANGE})
        else:
            super().make_posterior(dimensions)

    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        if (ends := self.posterior_model.logvar_range) is not None and terms.posterior is not None:
            moments = terms.posterior.moments()
            assert moments is not None
            logvar = moments[1].detach()
            terms.penalties["logvar_at_bound"] = ((logvar <= ends[0]) | (logvar >= ends[1])).float().mean(1)
        return terms

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        share = float(self.trainer.callback_metrics.get("val/logvar_at_bound", 0))
        if share > AT_BOUND and not self._warned and self.trainer.is_global_zero:
            self._warned = True
            log.warning(
                "warning     %.1f%% of the log variances of codes are at an end of"
                " model.posterior_options.logvar_range, where they have no gradient; a larger model.beta or a smaller"
                " model.optimizer.lr can help",
                100 * share,
            )
