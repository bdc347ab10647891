"""The vector-quantised autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.validation import at_least
from vaezoo.models.quantized import QuantizedAutoencoder
from vaezoo.training.terms import Terms, Weights


class VQVAE(QuantizedAutoencoder):
    """Autoencoder with codes from a learned codebook (van den Oord et al., 2017, equation 3).

    Args:
        commitment: weight of the squared distances of encoder outputs from their codes.
    """

    def __init__(self, *, commitment: float = 0.25, **shared: Any) -> None:
        super().__init__(**shared)
        at_least(commitment, 0, "model.commitment")
        self.commitment = commitment

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = terms.recon + self.commitment * terms.penalties["commitment"]
        return loss + terms.penalties["codebook"] if "codebook" in terms.penalties else loss

    def main_formula(self) -> str:
        return f"recon + {self.commitment:g} commitment{self.quantizer.formula()}"
