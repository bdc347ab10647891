"""The sparse autoencoder."""

from typing import Any

from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import term_of_kind, within
from vaezoo.models.ae import AE
from vaezoo.nn.constraints import unit_columns
from vaezoo.nn.sparsity import bernoulli_kl, keep_largest
from vaezoo.training.terms import Terms

KINDS: dict[str, dict[str, float]] = {"l1": {"l1": 1.0}, "kl": {"activation_kl": 3.0}, "top_k": {}}
"""What makes codes sparse, with the default weight of its term."""
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
        self.term_weights = term_of_kind(KINDS, kind, weight)
        self.kind, self.rho, self.k, self.has_sigmoid = kind, rho, k, kind == "kl"
        if not 0 < rho < 1:
            raise ConfigError(f"model.rho must be between 0 and 1, got {rho:g}")
        within(k, 1, self.latent_dim if kind == "top_k" else k, "model.k")
        if kind == "l1":
            unit_columns(self.decoder)

    @property
    def batch_statistic(self) -> str | None:
        return "model.kind=kl" if self.hparams["kind"] == "kl" else super().batch_statistic

    def code(self, x: Tensor) -> Tensor:
        return self.project(super().code(x))

    def project(self, code: Tensor) -> Tensor:
        return keep_largest(code, self.k) if self.kind == "top_k" else super().project(code)

    def terms_at(self, x: Tensor, code: Tensor) -> Terms:
        terms = super().terms_at(x, code)
        terms.penalties["active_share"] = (code.detach().abs() > SMALL).to(code.dtype).mean(1)
        if self.kind == "l1":
            terms.penalties["l1"] = code.abs().sum(1)
        if self.kind == "kl":
            terms.penalties["activation_kl"] = bernoulli_kl(code, self.rho).expand(len(x))
            terms.batch_statistics |= {"activation_kl"}
        return terms

    def main_formula(self) -> str:
        kept = f", of the {self.k} largest of {self.latent_dim} dimensions" if self.kind == "top_k" else ""
        return super().main_formula() + kept
