"""The JointVAE."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least, sum_of
from vaezoo.models.relaxed import RelaxedVAE
from vaezoo.training.terms import Terms, Weights
from vaezoo.training.weight_schedules import linear


class JointVAE(RelaxedVAE):
    """VAE with Gaussian dimensions beside categories, each with a controlled capacity (Dupont, 2018, equation 7).

    It minimises recon + gamma |kl_1 - C_1| + gamma |kl_2 - C_2| in nats; kl_1 is the KL of the Gaussians and kl_2 that
    of the categories. C_1 and C_2 rise from 0 over the first ``capacity_steps`` optimiser steps. As in our beta-VAE,
    they are capacities of each image; the author's are of batch means, which cost less where the KL varies. Defaults
    are the author's for MNIST; his losses are in nats as ours. The parts of the average KL are n/a.

    Args:
        continuous: Gaussian dimensions, which are the first of a code; categories: sizes of the groups after them.
        gamma: weight of both differences.
        capacity, discrete_capacity: the final C_1 and C_2; C_2 is at most the sum of log ``categories``.
    """

    def __init__(
        self,
        *,
        continuous: int = 10,
        categories: Sequence[int] = (10,),
        gamma: float = 30.0,
        capacity: float = 5.0,
        discrete_capacity: float = 5.0,
        capacity_steps: int = 25_000,
        first_temperature: float = 0.67,
        temperature_decay: float = 0.0,
        latent_dim: int | None = None,
        **shared: Any,
    ) -> None:
        size = sum_of([continuous, *categories], "model.continuous and model.categories", latent_dim)
        super().__init__(
            latent_dim=size, first_temperature=first_temperature, temperature_decay=temperature_decay, **shared
        )
        for name in ("gamma", "capacity", "discrete_capacity"):
            at_least(self.hparams[name], 0, f"model.{name}")
        at_least(capacity_steps, 1, "model.capacity_steps")
        if self.free_bits is not None:
            raise ConfigError("model.capacity and model.free_bits both keep up the KL; set model.free_bits to null")
        most = sum(math.log(size) for size in categories)
        self.beta, self.capacity_steps = gamma, capacity_steps
        self.capacities = {"capacity": capacity, "discrete_capacity": min(discrete_capacity, most)}

    def groups(self) -> tuple[list[int], int]:
        return list(self.hparams["categories"]), self.hparams["continuous"]

    def sizes(self, dimensions: int) -> dict[str, Any]:
        return {"continuous": max(1, dimensions - 2), "categories": [2]}

    def weights(self) -> dict[str, float]:
        rising = linear(self.global_step, self.capacity_steps)
        return {**super().weights(), **{name: rising * most for name, most in self.capacities.items()}}

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        differences = [kl - weights[name] for kl, name in zip(terms.kl.unbind(1), self.capacities, strict=True)]
        return terms.recon + self.beta * (differences[0].abs() + differences[1].abs())

    def main_formula(self) -> str:
        first, second = self.capacities.values()
        ends = f"C1 up to {first:g} and C2 to {second:.3g} nats in {self.capacity_steps:,} steps"
        return f"recon + {self.beta:g} (|kl_1 - C1| + |kl_2 - C2|), {ends}"
