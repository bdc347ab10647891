"""The plain autoencoder."""

from torch import Tensor

from vaezoo.models.base import Autoencoder
from vaezoo.training.terms import Terms, Weights


class AE(Autoencoder):
    """Deterministic autoencoder trained on the reconstruction term only (Rumelhart et al., 1986)."""

    def loss_terms(self, x: Tensor) -> Terms:
        code = self.encode(x)
        return Terms(self.nll(x, code), kl=x.new_zeros(len(x), 0), code=code)

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon

    def formula(self) -> str:
        return "recon"
