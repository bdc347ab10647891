"""The vector-quantised autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.validation import at_least
from vaezoo.models.quantized import QuantizedAutoencoder
from vaezoo.training.terms import Terms, Weights


class VQVAE(QuantizedAutoencoder):
    """Autoencoder with codes from a learned codebook (van den Oord et al., 2017, equation 3).

    By default, codes are moving averages of encoder outputs (appendix A.1 there), so the codebook term of equation 3 is
    left out; ``quantizer_options.update=gradient`` has it.

    Args:
        commitment: weight of the squared distances of encoder outputs from their codes, which the quantisers ``vq``,
            ``rvq``, ``simvq`` and ``lfq`` have.
    """

    def __init__(self, *, commitment: float = 0.25, **shared: Any) -> None:
        super().__init__(**shared)
        at_least(commitment, 0, "model.commitment")
        self.penalty_weights = {
            **({"commitment": commitment} if self.quantizer.commits else {}),
            **self.quantizer.weights,
        }

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = terms.recon
        for name, weight in self.penalty_weights.items():
            loss = loss + weight * terms.penalties[name]
        return loss + weights["kl_weight"] * terms.rate if terms.has_posterior else loss

    def weights(self) -> dict[str, float]:
        return {**super().weights(), **self.quantizer.weights_at(self.global_step)}

    def main_formula(self) -> str:
        commitment = f" + {self.penalty_weights['commitment']:g} commitment" if self.quantizer.commits else ""
        return f"recon{commitment}{self.quantizer.formula()}"
