"""The sparse autoencoder."""

from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least, within
from vaezoo.models.ae import AE
from vaezoo.nn.constraints import unit_columns
from vaezoo.nn.sparsity import bernoulli_kl, keep_largest
from vaezoo.training.terms import Terms, Weights

KINDS = {"l1": 1.0, "kl": 3.0, "top_k": 0.0}
"""What makes codes sparse, with the default weight of its term."""
TERMS = {"l1": "l1", "kl": "activation_kl"}
SMALL = 1e-3


class SparseAE(AE):
    """AE with few active dimensions in each code (Olshausen and Field, 1996).

    It minimises recon + ``weight`` R in nats per image. R depends on ``kind``: ``l1``, sum |z|, with decoder layers
    whose columns have norm 1, as codes would shrink and the decoder grow otherwise (norm layers, as in resnet, undo
    this); ``kl``, sum KL(``rho`` || mean activation of the batch) of sigmoid codes, a biased statistic and therefore in
    training only (Ng, 2011); ``top_k``, no term, but only the ``k`` largest by magnitude are kept (Makhzani and Frey,
    2014). ``active_share`` is the share of dimensions with |z| > 0.001.

    A weight of None is the default of the kind. With a weight of 0, l1 and kl differ from the AE by their columns and
    sigmoid; ``top_k`` is the AE if all are kept. There is no posterior: no ELBO, and no samples except from a mixture
    fitted to codes.
    """

    def __init__(
        self, *, kind: str = "l1", weight: float | None = None, rho: float = 0.05, k: int = 3, **shared: Any
    ) -> None:
        super().__init__(**shared)
        if kind not in KINDS:
            raise ConfigError(f"model.kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if weight is not None and kind not in TERMS:
            raise ConfigError(
                f"model.weight weighs the term of model.kind={' or '.join(TERMS)}; set it to null, got {kind}"
            )
        self.kind, self.rho, self.k = kind, rho, k
        self.weight = KINDS[kind] if weight is None else weight
        at_least(self.weight, 0, "model.weight")
        if not 0 < rho < 1:
            raise ConfigError(f"model.rho must be between 0 and 1, got {rho:g}")
        within(k, 1, self.latent_dim if kind == "top_k" else k, "model.k")
        if kind == "l1":
            unit_columns(self.decoder)

    @property
    def batch_statistic(self) -> str | None:
        return "model.kind=kl" if self.hparams["kind"] == "kl" else super().batch_statistic

    def code(self, x: Tensor) -> Tensor:
        features = self.features(x)
        return torch.sigmoid(features) if self.kind == "kl" else self.project(features)

    def project(self, code: Tensor) -> Tensor:
        if self.kind == "top_k":
            return keep_largest(code, self.k)
        return code.clamp(0, 1) if self.kind == "kl" else code

    def terms_at(self, x: Tensor, code: Tensor) -> Terms:
        terms = super().terms_at(x, code)
        terms.penalties["active_share"] = (code.detach().abs() > SMALL).to(code.dtype).mean(1)
        if self.kind == "l1":
            terms.penalties["l1"] = code.abs().sum(1)
        if self.kind == "kl":
            terms.penalties["activation_kl"] = bernoulli_kl(code, self.rho).expand(len(x))
            terms.batch_statistics |= {"activation_kl"}
        return terms

    def main_objective(self, terms: Terms, weights: Weights) -> Tensor:
        return terms.recon + self.weight * terms.penalties[TERMS[self.kind]] if self.kind in TERMS else terms.recon

    def main_formula(self) -> str:
        if self.kind == "top_k":
            return f"recon, of the {self.k} largest of {self.latent_dim} dimensions"
        return f"recon + {self.weight:g} {TERMS[self.kind]}"
