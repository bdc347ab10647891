"""The beta-VAE, with schedules for beta and with a controlled capacity."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.models.vae import VAE
from vaezoo.training.terms import Terms, Weights
from vaezoo.training.weight_schedules import describe, fraction, linear


class BetaVAE(VAE):
    """VAE with the KL term weighted by ``beta`` (Higgins et al., 2017).

    Args:
        beta: final weight of the KL.
        beta_schedule: ``constant``; ``linear``, rising from 0 over the first ``schedule_steps`` optimiser steps;
            ``cyclic``, rising from 0 over the first half of every ``schedule_steps`` (Fu et al., 2019).
        capacity: target of each image's KL in nats. The objective is recon + beta |kl - C|, with C rising from 0 to
            ``capacity`` over the first ``capacity_steps`` steps (Burgess et al., 2018, whose gamma is beta). As in
            their equation, kl is that of one image; the batch mean, which is often used, depends on the batch size.

    Raises:
        ConfigError: an argument is out of range, ``capacity`` is combined with a schedule or free bits, or another
            bound is set although its KL is weighed.
    """

    def __init__(
        self,
        *,
        beta: float = 4.0,
        beta_schedule: str = "constant",
        schedule_steps: int = 10_000,
        capacity: float | None = None,
        capacity_steps: int = 100_000,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        at_least(beta, 0, "model.beta")
        at_least(schedule_steps, 1, "model.schedule_steps")
        at_least(capacity_steps, 1, "model.capacity_steps")
        at_least(capacity or 0, 0, "model.capacity")
        fraction(beta_schedule, 0, schedule_steps)
        if capacity is not None and beta_schedule != "constant":
            raise ConfigError("model.capacity has its own schedule and needs model.beta_schedule=constant, got both")
        if capacity is not None and self.free_bits is not None:
            raise ConfigError("model.capacity and model.free_bits both keep up the KL; set either of them, got both")
        self.beta, self.beta_schedule, self.schedule_steps = beta, beta_schedule, schedule_steps
        self.capacity, self.capacity_steps = capacity, capacity_steps

    @property
    def elbo_only(self) -> str:
        chosen = self.hparams
        plain = (chosen["beta"], chosen["beta_schedule"], chosen["capacity"]) == (1, "constant", None)
        unless = "model.beta=1, model.beta_schedule=constant and model.capacity=null"
        return "" if plain else f"its KL is weighed unless {unless}"

    def weights(self) -> dict[str, float]:
        beta = self.beta * fraction(self.beta_schedule, self.global_step, self.schedule_steps)
        weights = {**super().weights(), "beta": beta}
        if self.capacity is not None:
            weights["capacity"] = self.capacity * linear(self.global_step, self.capacity_steps)
        return weights

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        if self.bound.needs_weights:
            return super().main_objective(terms, weights)
        if self.capacity is None:
            return terms.recon + weights["beta"] * self.cost(terms)
        return terms.recon + weights["beta"] * (terms.rate - weights["capacity"]).abs()

    def main_formula(self) -> str:
        if self.bound.needs_weights:
            return super().main_formula()
        if self.capacity is not None:
            return f"recon + {self.beta:g} |kl - C|, C up to {self.capacity:g} nats in {self.capacity_steps:,} steps"
        weight = "" if self.beta == 1 else f"{self.beta:g} "
        return f"recon + {weight}{self.formula_of_cost()}{describe(self.beta_schedule, self.schedule_steps)}"
