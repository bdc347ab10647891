"""The variational autoencoder, with posterior, prior, bound and penalty as axes of their own."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.models.base import Autoencoder
from vaezoo.nn.bounds import make_bound
from vaezoo.nn.penalties import make_penalty
from vaezoo.nn.posteriors import Draw, Moments, Posterior, make_posterior_family
from vaezoo.nn.priors import Prior, make_prior
from vaezoo.training.terms import Terms, Weights


class VAE(Autoencoder):
    """VAE, by default with a Gaussian posterior and prior, trained on the ELBO (Kingma and Welling, 2014, equation 10).

    Args:
        posterior: family of q(z|x) by name (see ``vaezoo.nn.posteriors``); posterior_options: its arguments.
        prior: p(z) by name (see ``vaezoo.nn.priors``); prior_options: its arguments.
        bound: what is maximised, by name (see ``vaezoo.nn.bounds``); bound_options: its arguments.
        penalty: a term that is added, by name (see ``vaezoo.nn.penalties``), or None; penalty_options: its arguments,
            such as its weight.

    Raises:
        ConfigError: an unknown name or option, or parts that cannot be combined.
    """

    selection = ("val/elbo", "max")
    auxiliary = ("prior_model", "penalty")
    beta = 1.0
    """Weight of the KL in the objective."""

    def __init__(
        self,
        *,
        posterior: str = "diagonal",
        posterior_options: dict[str, Any] | None = None,
        prior: str = "normal",
        prior_options: dict[str, Any] | None = None,
        bound: str = "elbo",
        bound_options: dict[str, Any] | None = None,
        penalty: str | None = None,
        penalty_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        self._family = make_posterior_family(posterior, posterior_options)  # no module: may be set first
        super().__init__(**shared)
        self.prior_model = make_prior(prior, self.image_shape, self.latent_dim, prior_options)
        self.bound = make_bound(bound, bound_options)
        self.penalty = None if penalty is None else make_penalty(penalty, self.latent_dim, penalty_options)
        self._refuse_combinations()

    def _refuse_combinations(self) -> None:
        """ConfigError for parts that cannot be combined."""
        chosen = {"prior": self.prior_model, "penalty": self.penalty}
        for key, part in chosen.items():
            if part is not None and part.needs_moments and not self._family.makes_moments:
                raise ConfigError(
                    f"model.{key}={self.hparams[key]} needs a posterior of independent Gaussian dimensions; set"
                    f" model.posterior=diagonal instead of {self.hparams['posterior']}"
                )
        self._refuse_monitor()
        if self._family.is_flat and len(self.code_shape) > 1:
            raise ConfigError(
                f"model.posterior={self.hparams['posterior']} is for flat codes, and model.code_channels gives a"
                " spatial one; set model.posterior=diagonal"
            )

    def _refuse_monitor(self) -> None:
        """ConfigError for a schedule that watches an objective which validation does not have."""
        watched = {"monitor": "val/loss", **(self._scheduler or {})}
        if (
            self.penalty is not None
            and self.penalty.is_batch_statistic
            and watched.get("name") == "ReduceLROnPlateau"
            and watched["monitor"] == "val/loss"
        ):
            raise ConfigError(
                f"model.scheduler watches val/loss, which model.penalty={self.hparams['penalty']} does not have in"
                " validation, because it is a biased statistic of training batches; set model.scheduler.monitor to"
                " val/elbo and model.scheduler.mode to max"
            )

    def count_features(self, dimensions: int) -> int:
        return int(self._family.features(dimensions))

    def posterior(self, x: Tensor) -> Posterior:
        found: Posterior = self._family(self.features(x))
        return found

    def prior(self) -> Prior:
        found: Prior = self.prior_model(self.posterior, self.device)
        return found

    def loss_terms(self, x: Tensor) -> Terms:
        posterior, prior = self.posterior(x), self.prior()
        draw = drawn = posterior.draw(self.bound.samples)
        kl, kl_by = posterior.kl(prior, draw), posterior.kl_by(prior)
        if self.bound.label is None:
            recon, log_weights, penalties = self.nll(x, draw.first), None, {}
        else:
            draw, recon, log_weights = self._weigh(x, posterior, prior, drawn)
            penalties = {self.bound.label: self.bound.value(log_weights).detach()}
        terms = Terms(recon, kl, penalties, code=posterior.mean, kl_by=kl_by)
        terms.log_weights, terms.posterior, terms.draw = log_weights, posterior, draw
        if self.penalty is not None:
            self._penalise(terms, drawn.first, posterior.moments())
        return terms

    def _weigh(self, x: Tensor, posterior: Posterior, prior: Prior, draw: Draw) -> tuple[Draw, Tensor, Tensor]:
        """The draw with codes whose gradient the bound may scale, recon (B,) and the log weights of the draw (K, B)."""
        draw = draw.seen_through(draw.code.view_as(draw.code))
        nll = self.nll_of_draws(x, draw.code)
        stopped: Any = posterior.detached() if self.bound.stops_posterior else None
        log_q = draw.log_prob if stopped is None else stopped.log_prob(draw.code)
        return draw, nll.mean(0), prior.log_prob(draw.code) - log_q - nll

    def _penalise(self, terms: Terms, code: Tensor, moments: Moments | None) -> None:
        """Add the penalty of codes (B, D), and the loss of its critic, to the terms."""
        assert self.penalty is not None
        value, terms.critic = self.penalty(code, moments, self.train_images)
        terms.penalties[self.penalty.label] = value
        terms.batch_statistics = frozenset([self.penalty.label] if self.penalty.is_batch_statistic else [])

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = self.negative_bound(terms, weights)
        return loss if self.penalty is None else loss + self.penalty.weight * terms.penalties[self.penalty.label]

    def negative_bound(self, terms: Terms, weights: Weights) -> Tensor:
        """The objective without the penalty, in nats: (B,)."""
        code = None if terms.draw is None else terms.draw.code
        return self.bound.loss(terms.recon, terms.rate, terms.log_weights, code)

    def formula(self) -> str:
        return self.bound_formula() + ("" if self.penalty is None else f" + {self.penalty.formula()}")

    def bound_formula(self) -> str:
        """The objective without the penalty, as text."""
        return self.bound.formula()

    def explain_weights(self) -> list[str]:
        prior = [] if self.hparams["prior"] == "normal" else [f"prior: {self.prior_model.describe()}"]
        if self.bound.label is not None:
            return prior
        beta, unit = self.beta, "nat" if self.beta == 1 else "nats"
        return [
            f"beta {beta:g}: a nat of KL, summed over {self.latent_dim} dimensions, costs as much as {beta:g} {unit}"
            f" of recon, summed over {self.pixels:,} pixels",
            f"equivalent beta for a loss averaged over pixels: {beta / self.pixels:.4g};"
            f" averaged over pixels and dimensions (beta_norm): {beta * self.latent_dim / self.pixels:.4g}",
            *prior,
        ]

    @property
    def wants_images(self) -> int:
        return self.prior_model.wants_images

    def start_from(self, images: Tensor) -> None:
        self.prior_model.start_from(images, self.posterior)

    @property
    def critics(self) -> tuple[str, ...]:  # type: ignore[override]
        """The critic of the penalty, if it has one."""
        return ("penalty.critic",) if self.penalty is not None and self.penalty.critic_settings else ()

    def critic_settings(self) -> dict[str, Any]:
        return {} if self.penalty is None else dict(self.penalty.critic_settings)
