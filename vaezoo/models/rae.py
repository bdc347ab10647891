"""The regularised autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.models.ae import AE
from vaezoo.nn.constraints import spectral_norms, squared_weights
from vaezoo.nn.jacobians import norm_of_inputs
from vaezoo.training.terms import Terms, Weights

KINDS = {"l2": (6.4e-3, 5.1e-5), "gradient": (6.4e-3, 1e-4), "spectral": (6.4e-3, 0.0), "none": (0.032, 0.0)}
"""What regularises the decoder, with the default weights of the embedding and of that term."""
TERMS = {"l2": "decoder_weights", "gradient": "jacobian"}


class RAE(AE):
    """AE with small codes and a regularised decoder, to sample from a mixture fitted to codes (Ghosh et al., 2020).

    It minimises recon + ``embedding_weight`` 0.5 |z|^2 + ``weight`` R in nats per image. R depends on ``kind``: ``l2``,
    the sum of squared decoder weights; ``gradient``, |d x/d z|_F^2 of the decoded pixels, by an unbiased estimate;
    ``spectral``, no term but decoder layers of spectral norm 1; ``none``.

    Weights of None are the defaults of the kind: those of the authors' code for MNIST (mean squared error, D = 16)
    times HW/2. Those of ``gradient`` and ``spectral`` are ours: their code penalises something else in the one, and has
    batch norm, which undoes the constraint, in the other. They are for a Gaussian likelihood of sigma 1; for sigma s,
    divide them by s^2. Weights of 0 give the AE, except for ``spectral``. There is no posterior, so no ELBO.
    """

    def __init__(
        self, *, kind: str = "l2", embedding_weight: float | None = None, weight: float | None = None, **shared: Any
    ) -> None:
        super().__init__(**shared)
        if kind not in KINDS:
            raise ConfigError(f"model.kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if weight is not None and kind not in TERMS:
            raise ConfigError(
                f"model.weight weighs the term of model.kind={' or '.join(TERMS)}; set it to null, got {kind}"
            )
        embedding, of_kind = KINDS[kind]
        self.kind, self.weight = kind, of_kind if weight is None else weight
        self.embedding_weight = embedding if embedding_weight is None else embedding_weight
        at_least(self.embedding_weight, 0, "model.embedding_weight")
        at_least(self.weight, 0, "model.weight")
        if kind == "spectral":
            spectral_norms(self.decoder)

    def terms_at(self, x: Tensor, code: Tensor) -> Terms:
        terms = super().terms_at(x, code)
        terms.penalties["embedding"] = 0.5 * code.square().sum(1)
        if self.kind == "l2":
            terms.penalties["decoder_weights"] = squared_weights(self.decoder).expand(len(x))
        if self.kind == "gradient":
            terms.penalties["jacobian"] = norm_of_inputs(lambda at: self.likelihood.mean(self.outputs(at)), code)
        return terms

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = terms.recon + self.embedding_weight * terms.penalties["embedding"]
        return loss + self.weight * terms.penalties[TERMS[self.kind]] if self.kind in TERMS else loss

    def main_formula(self) -> str:
        of_kind = f" + {self.weight:g} {TERMS[self.kind]}" if self.kind in TERMS else ""
        return f"recon + {self.embedding_weight:g} embedding{of_kind}"
