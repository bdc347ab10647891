"""The plain autoencoder."""

from torch import Tensor

from vaezoo.models.continuous import ContinuousAutoencoder
from vaezoo.training.terms import Terms, Weights


class AE(ContinuousAutoencoder):
    """Deterministic autoencoder, by default trained on the reconstruction term only (Rumelhart et al., 1986).

    With a prior it has samples, which the prior's codes are decoded to; a penalty can draw codes towards the prior.
    """

    def code(self, x: Tensor) -> Tensor:
        """The code of what the encoder sees, which may be corrupted: (B, C, H, W) -> (B, D)."""
        return self.features(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.code(x)

    def loss_terms(self, x: Tensor) -> Terms:
        return self.terms_at(x, self.code(self.encoder_input(x)))

    def terms_at(self, x: Tensor, code: Tensor) -> Terms:
        """Loss terms of clean images given their codes: (B, C, H, W) and (B, D) -> Terms."""
        outputs = self.outputs(code)
        terms = Terms(self.likelihood.nll(x, outputs), kl=x.new_zeros(len(x), 0), code=code)
        self.penalise(terms, x, outputs, code, None, self.prior())
        return terms

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon

    def main_formula(self) -> str:
        return "recon"
