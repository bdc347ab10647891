"""The regularised autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.validation import at_least, term_of_kind
from vaezoo.models.ae import AE
from vaezoo.nn.constraints import spectral_norms, squared_weights
from vaezoo.nn.jacobians import norm_of_inputs
from vaezoo.training.terms import Terms

KINDS: dict[str, dict[str, float]] = {
    "l2": {"decoder_weights": 5.1e-5},
    "gradient": {"jacobian": 1e-4},
    "spectral": {},
    "none": {},
}
"""What regularises the decoder, with the default weight of its term."""


class RAE(AE):
    """AE with small codes and a regularised decoder, to sample from a mixture fitted to codes (Ghosh et al., 2020).

    It minimises recon + ``embedding_weight`` 0.5 |z|^2 + ``weight`` R in nats per image. R depends on ``kind``: ``l2``,
    the sum of squared decoder weights; ``gradient``, |d x/d z|_F^2 of the decoded pixels, by an unbiased estimate;
    ``spectral``, no term but decoder layers of spectral norm 1; ``none``.

    Weights of None are the defaults of the kind, from the authors' code for MNIST padded to 32x32 (mean squared error,
    D = 16): ``weight`` of l2 is theirs times HW/2, ``embedding_weight`` of l2, gradient and none theirs times HW/D.
    ``weight`` of gradient and ``embedding_weight`` of spectral are ours: their code penalises something else in the
    one, and has batch norm, which undoes the constraint, in the other. They are for a Gaussian likelihood of sigma 1;
    for sigma s, divide them by s^2. Weights of 0 give the AE, except for ``spectral``. There is no posterior, so no
    ELBO.
    """

    def __init__(
        self, *, kind: str = "l2", embedding_weight: float | None = None, weight: float | None = None, **shared: Any
    ) -> None:
        super().__init__(**shared)
        if embedding_weight is None:
            embedding_weight = 0.032 if kind == "none" else 6.4e-3
        at_least(embedding_weight, 0, "model.embedding_weight")
        self.kind = kind
        self.term_weights = {"embedding": embedding_weight, **term_of_kind(KINDS, kind, weight)}
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
