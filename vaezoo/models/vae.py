"""The variational autoencoder, with posterior and bound as further axes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.models.continuous import ContinuousAutoencoder
from vaezoo.nn.bounds import BoundTerms, make_bound
from vaezoo.nn.critics import call_frozen
from vaezoo.nn.free_bits import make_free_bits
from vaezoo.nn.posteriors import make_posterior_model
from vaezoo.nn.posteriors.base import Draw, Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.training.terms import Terms, Weights

AT_BOUND = 0.001
"""Share of log variances at a bound beyond which there is a warning."""


class VAE(ContinuousAutoencoder):
    """VAE, by default with a Gaussian posterior and prior, trained on the ELBO (Kingma and Welling, 2014, equation 10).

    Args:
        posterior: family of q(z|x) by name (see ``vaezoo.nn.posteriors``); posterior_options: its arguments.
        bound: what is maximised, by name (see ``vaezoo.nn.bounds``); bound_options: its arguments.
        free_bits: nats below which a dimension, or a level of a hierarchy, costs the objective no less; None or 0 for
            no floor. free_bits_options: its arguments (see ``vaezoo.nn.free_bits``). Logged terms stay raw.

    Raises:
        ConfigError: an unknown name or option, or parts that cannot be combined.
    """

    selection: tuple[str, str] | None = ("val/elbo", "max")
    learns_prior = True
    beta = 1.0
    """Weight of the KL in the objective."""

    def __init__(
        self,
        *,
        posterior: str = "diagonal",
        posterior_options: dict[str, Any] | None = None,
        prior: str = "normal",
        bound: str = "elbo",
        bound_options: dict[str, Any] | None = None,
        free_bits: float | None = None,
        free_bits_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        self.free_bits = make_free_bits(free_bits, free_bits_options)  # no module: may be set first
        super().__init__(prior=prior, **shared)
        self.bound = make_bound(bound, bound_options)
        self._itself = (_Methods(self),)  # in a tuple, so that a model is no part of itself
        self._refuse_combinations()

    @property
    def elbo_only(self) -> str:
        """Why no other bound than the ELBO is possible, as a clause; empty if others are."""
        return ""

    def _refuse_combinations(self) -> None:
        """ConfigError for parts that cannot be combined."""
        chosen = self.hparams
        if self.elbo_only and self.bound.needs_weights:
            raise ConfigError(
                f"{type(self).__name__} needs model.bound=elbo with its plain estimator, because {self.elbo_only}; set"
                " model.bound=elbo and model.bound_options=null"
            )
        if self.posterior_model.is_flat and len(self.code_shape) > 1:
            raise ConfigError(
                f"model.posterior={chosen['posterior']} is for flat codes, and model.code_channels gives a"
                " spatial one; set model.posterior=diagonal"
            )
        if self.bound.stops_posterior and not self.posterior_model.can_be_detached:
            raise ConfigError(
                f"model.bound_options.estimator={chosen['bound_options']['estimator']} needs the density of given codes"
                f" without gradients for the posterior, which {type(self.posterior_model).__name__} does not have; set"
                " model.bound_options.estimator=plain"
            )
        if self.free_bits is not None and self.bound.needs_weights:
            raise ConfigError(
                f"model.free_bits is a floor for the KL of model.bound=elbo, and {chosen['bound']} has none; set"
                " either of them"
            )

    @property
    def batch_statistic(self) -> str | None:
        biased = self.free_bits is not None and self.free_bits.is_batch_statistic
        return "model.free_bits" if biased else super().batch_statistic

    @property
    def is_spherical(self) -> bool:
        return self.posterior_model.is_spherical

    def _refuse_families(self) -> None:
        """ConfigError for another posterior or prior than the defaults, for a model that has its own."""
        own = f"{type(self).__name__} has a posterior and a prior of its own"
        for key, default in {"posterior": "diagonal", "prior": "normal"}.items():
            if self.hparams[key] != default:
                raise ConfigError(f"{own}; set model.{key}={default} instead of {self.hparams[key]}")
            if self.hparams[f"{key}_options"]:
                raise ConfigError(f"{own}; set model.{key}_options=null")

    @property
    def has_moments(self) -> bool:
        return self.posterior_model.makes_moments

    def make_posterior(self, dimensions: int) -> None:
        options = self.hparams["posterior_options"]
        self.posterior_model = make_posterior_model(self.hparams["posterior"], dimensions, options)

    def count_features(self, dimensions: int) -> int:
        return self.posterior_model.features(dimensions)

    def project(self, code: Tensor) -> Tensor:
        return self.posterior_model.project(code)

    def posterior(self, x: Tensor) -> Posterior:
        found: Posterior = self.posterior_model(self.features(x))
        return found

    def prior(self) -> Prior:
        own = self.posterior_model.prior(self.device)
        prior = super().prior() if own is None else own
        assert prior is not None
        return prior

    def loss_terms(self, x: Tensor) -> Terms:
        posterior, prior = self.posterior(self.encoder_input(x)), self.prior()
        drawn = posterior.draw(self.bound.samples)
        kl, kl_by = posterior.kl(prior, drawn), posterior.kl_by(prior)
        if self.bound.needs_weights:
            terms, outputs = self._weigh(x, posterior, prior, drawn, kl, kl_by)
        else:
            outputs = self.outputs(self.seen_by_decoder(drawn.first))
            terms = Terms(self.likelihood.nll(x, outputs), kl, kl_by=kl_by, draw=drawn)
        terms.posterior = posterior
        if (ends := self.posterior_model.logvar_range) is not None:
            moments = posterior.moments()
            assert moments is not None
            logvar = moments[1].detach()
            terms.penalties["logvar_at_bound"] = ((logvar <= ends[0]) | (logvar >= ends[1])).float().mean(1)
        self.penalise(terms, x, outputs, drawn.first, posterior, prior)
        if self.free_bits is not None and self.free_bits.is_batch_statistic:
            terms.batch_statistics |= {"free_bits"}
        return terms

    def complaints(self, found: Mapping[str, Tensor]) -> dict[str, str]:
        share = float(found.get("val/logvar_at_bound", 0))
        if share <= AT_BOUND:
            return super().complaints(found)
        sentence = (
            f"{share:.1%} of the log variances of codes are at an end of model.posterior_options.logvar_range, where"
            " they have no gradient; a larger model.beta or a smaller model.optimizer.lr can help"
        )
        return {**super().complaints(found), "logvar_range": sentence}

    def seen_by_decoder(self, code: Tensor) -> Tensor:
        """The drawn codes that ``recon`` is decoded from, (B, D); a variant may change their gradient."""
        return code

    def _weigh(
        self, x: Tensor, posterior: Any, prior: Prior, drawn: Draw, kl: Tensor, kl_by: str
    ) -> tuple[Terms, Tensor]:
        """The terms of a bound that needs the importance weights of the draws, and decoder outputs at the first draw.

        The bound may scale the gradient of the codes in ``terms.draw``. If it splits, decoder and prior see these codes
        as constants, and the encoder sees decoder and prior as constants, in a second pass through the decoder. In
        either case, added terms that compare pixels need a pass of their own, with the gradient as it is.
        """
        code = drawn.code.detach() if self.bound.splits else drawn.code.view_as(drawn.code)
        outputs = self.outputs(code.flatten(0, 1))
        nll = self.nll_at(x, outputs)
        stopped = posterior.detached() if self.bound.stops_posterior else None
        log_q = drawn.log_prob if stopped is None else stopped.log_prob(code)
        log_weights = prior.log_prob(code) - nll - (log_q.detach() if self.bound.splits else log_q)
        penalties = {} if self.bound.label is None else {self.bound.label: self.bound.value(log_weights).detach()}
        terms = Terms(nll.mean(0), kl, penalties, kl_by=kl_by, log_weights=log_weights)
        terms.draw = drawn.seen_through(code)
        if self.bound.splits:
            terms.encoder_log_weights = self.call_frozen("log_joint", x, drawn.code) - log_q
        again = self.bound.changes_gradients and any(part.needs_pixels for part in self.added_terms)
        return terms, self.outputs(drawn.first) if again else outputs[: len(x)]

    def call_frozen(self, method: str, *args: Any) -> Any:
        """What a method returns, differentiable with respect to ``args`` but not to the model's parameters."""
        return call_frozen(*self._itself, method, *args)

    def log_joint(self, x: Tensor, code: Tensor) -> Tensor:
        """log p(x, z) of each image and each of its K codes, in nats: (B, C, H, W) and (K, B, D) -> (K, B)."""
        return self.prior().log_prob(code) - self.nll_of_draws(x, code)

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        code = None if terms.draw is None else terms.draw.code
        drawn = BoundTerms(terms.recon, self.cost(terms), terms.log_weights, code, terms.encoder_log_weights)
        return self.bound.loss(drawn)

    def cost(self, terms: Terms) -> Tensor:
        """The rate in the objective, in nats: (B,). With free bits, it has a floor."""
        if self.free_bits is None:
            return terms.rate
        return self.free_bits(terms.kl, terms.kl_by, self.latent_dim)

    def main_formula(self) -> str:
        return self.bound.formula() if self.free_bits is None else f"recon + {self.formula_of_cost()}"

    def formula_of_cost(self) -> str:
        return "kl" if self.free_bits is None else self.free_bits.formula()

    def explain_weights(self) -> list[str]:
        if self.bound.needs_weights:
            return super().explain_weights()
        beta, unit = self.beta, "nat" if self.beta == 1 else "nats"
        return [
            f"beta {beta:g}: a nat of KL, summed over {self.latent_dim} dimensions, costs as much as {beta:g} {unit}"
            f" of recon, summed over {self.pixels:,} pixels",
            f"equivalent beta for a loss averaged over pixels: {beta / self.pixels:.4g};"
            f" averaged over pixels and dimensions (beta_norm): {beta * self.latent_dim / self.pixels:.4g}",
            *([] if self.free_bits is None else [self.free_bits.describe()]),
            *super().explain_weights(),
        ]


class _Methods(nn.Module):
    """The methods of a VAE as outputs of a module, whose parameters can be held constant."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self.model, method)(*args)
