"""The contractive autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.validation import at_least
from vaezoo.models.ae import AE
from vaezoo.nn.jacobians import norm_of_outputs
from vaezoo.training.terms import Terms


class ContractiveAE(AE):
    """AE whose codes hardly change with the image, by a penalty on their Jacobian (Rifai et al., 2011).

    It minimises recon + ``weight`` |d code/d x|_F^2 in nats per image. The term is logged as ``contraction``, in code
    units per pixel, squared; up to 32 dimensions it is exact, and beyond them an unbiased estimate.

    Codes are in (0, 1), by a sigmoid as in the paper: without a bound, they shrink and the decoder grows, with the same
    reconstructions and no robustness. The paper's other remedy, tied weights, is not possible for every network. The
    weight is the paper's, for Bernoulli likelihoods; a weight of 0 gives an AE with sigmoid codes. There is no
    posterior: no ELBO, and no samples except from a mixture fitted to codes.
    """

    has_sigmoid = True

    def __init__(self, *, weight: float = 0.1, **shared: Any) -> None:
        super().__init__(**shared)
        at_least(weight, 0, "model.weight")
        self.term_weights = {"contraction": weight}

    def loss_terms(self, x: Tensor) -> Terms:
        code, norm = norm_of_outputs(self.code, self.encoder_input(x))
        terms = self.terms_at(x, code)
        terms.penalties["contraction"] = norm
        return terms
