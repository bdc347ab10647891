"""The plain autoencoder."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaezoo.models.continuous import ContinuousAutoencoder
from vaezoo.training.terms import Terms, Weights


class AE(ContinuousAutoencoder):
    """Deterministic autoencoder, by default trained on the reconstruction term only (Rumelhart et al., 1986).

    With a prior it has samples, which the prior's codes are decoded to; a penalty can draw codes towards the prior.
    """

    term_weights: Mapping[str, float] = {}
    """Weights of further terms in the objective, by their names in ``Terms.penalties``."""
    has_sigmoid = False
    """Whether codes are in (0, 1), by a sigmoid."""

    def code(self, x: Tensor) -> Tensor:
        """The code of what the encoder sees, which may be corrupted: (B, C, H, W) -> (B, D)."""
        features = self.features(x)
        return torch.sigmoid(features) if self.has_sigmoid else features

    def encode(self, x: Tensor) -> Tensor:
        return self.code(x)

    def project(self, code: Tensor) -> Tensor:
        return code.clamp(0, 1) if self.has_sigmoid else code

    def loss_terms(self, x: Tensor) -> Terms:
        return self.terms_at(x, self.code(self.encoder_input(x)))

    def terms_at(self, x: Tensor, code: Tensor) -> Terms:
        """Loss terms of clean images given their codes: (B, C, H, W) and (B, D) -> Terms."""
        outputs = self.outputs(code)
        terms = Terms(self.likelihood.nll(x, outputs), kl=x.new_zeros(len(x), 0), code=code)
        self.penalise(terms, x, outputs, code, None, self.prior())
        return terms

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = terms.recon
        for name, weight in self.term_weights.items():
            loss = loss + weight * terms.penalties[name]
        return loss

    def main_formula(self) -> str:
        return " + ".join(["recon", *(f"{weight:g} {name}" for name, weight in self.term_weights.items())])
