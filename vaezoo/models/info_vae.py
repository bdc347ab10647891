"""The InfoVAE."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.models.vae import VAE
from vaezoo.training.terms import Terms, Weights


class InfoVAE(VAE):
    """VAE that weighs the mismatch of aggregate posterior and prior apart from the KL (Zhao et al., 2017).

    The objective is recon + (1 - alpha) kl + (alpha + lambda - 1) mmd, the paper's equation 6 in nats, with the MMD of
    drawn codes and the prior. alpha = 0 and lambda = 1 are the VAE; alpha = 1 is the MMD-VAE, which leaves the mutual
    information of images and codes free. The MMD has no bias, and is logged in validation too.

    Args:
        alpha: at most 1; ``lambd``: the paper's lambda, at least 1 - alpha.
        penalty: another discrepancy of codes and prior; penalty_options: its arguments but for its weight.

    Raises:
        ConfigError: alpha or lambda are out of range, or ``penalty_options`` have a weight, or another bound is set.
    """

    elbo_only = "model.alpha weighs its KL"

    def __init__(
        self,
        *,
        alpha: float = 0.0,
        lambd: float = 100.0,
        penalty: str = "mmd",
        penalty_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        weight, options = alpha + lambd - 1, dict(penalty_options or {})
        if alpha > 1 or weight < 0:
            raise ConfigError(
                "model.alpha must be at most 1 and model.alpha + model.lambd at least 1, or the KL or the MMD would be"
                f" maximised; got {alpha:g} and {lambd:g}"
            )
        if "weight" in options:
            raise ConfigError("model.penalty_options.weight follows from model.alpha and model.lambd; leave it out")
        super().__init__(penalty=penalty, penalty_options={**options, "weight": weight}, **shared)
        self.beta = 1 - alpha

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon + self.beta * self.cost(terms)

    def main_formula(self) -> str:
        return f"recon + {self.beta:g} {self.formula_of_cost()}"
