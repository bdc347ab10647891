"""Base class of VAEs with one-hot codes, which training relaxes."""

import math
from typing import Any

from torch import Tensor

from vaezoo.config.validation import above, at_least
from vaezoo.models.vae import VAE
from vaezoo.nn.posteriors.categorical import Rate, RelaxedCategories


class RelaxedVAE(VAE):
    """VAE with groups of categories. A variant implements ``groups`` and ``__init__``, which sets ``latent_dim``.

    In training, draws are relaxed with a temperature of max(``least_temperature``, ``first_temperature``
    exp(-``temperature_decay`` step)). Validation, test and every tool draw one-hot codes, with the exact KL.

    Args:
        rate: ``categorical``, the KL of the categories, which is no bound for relaxed codes (Jang et al., 2017), or
            ``relaxed``, that of the relaxed distributions, estimated from the draw (Maddison et al., 2017).
        straight_through: whether the decoder sees one-hot codes, with the gradient of the relaxed ones.

    Raises:
        ConfigError: an argument is out of range, or a posterior, prior, bound or code that is not for categories.
    """

    elbo_only = "relaxed draws have no density under the prior"
    posterior_model: RelaxedCategories

    def __init__(
        self,
        *,
        first_temperature: float = 1.0,
        least_temperature: float = 0.5,
        temperature_decay: float = 3e-5,
        straight_through: bool = False,
        rate: Rate = "categorical",
        **shared: Any,
    ) -> None:
        above(first_temperature, 0, "model.first_temperature")
        above(least_temperature, 0, "model.least_temperature")
        at_least(temperature_decay, 0, "model.temperature_decay")
        super().__init__(**shared)
        self.one_hots = self.posterior_model.parts()

    def groups(self) -> tuple[list[int], int]:
        """Categories of each group, and the number of Gaussian dimensions before them."""
        raise NotImplementedError

    def make_posterior(self, dimensions: int) -> None:
        self._refuse_families()
        chosen = {name: self.hparams[name] for name in ("straight_through", "rate")}
        self.posterior_model = RelaxedCategories(*self.groups(), temperature=self.temperature_at(0), **chosen)

    def temperature_at(self, step: int) -> float:
        """The temperature of draws in the step that follows ``step`` optimiser steps."""
        chosen = self.hparams
        falling = chosen["first_temperature"] * math.exp(-chosen["temperature_decay"] * step)
        return float(max(chosen["least_temperature"], falling))

    def weights(self) -> dict[str, float]:
        return {**super().weights(), "temperature": self.temperature_at(self.global_step)}

    def update_statistics(self) -> None:
        self.posterior_model.temperature.fill_(self.temperature_at(self.global_step + 1))

    def path_code(self, x: Tensor) -> Tensor:
        return self.posterior_model.probabilities(self.features(x))
