"""Penalties on the codes of a whole batch: their dependence, covariance, and distance from the prior."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.validation import at_least
from vaezoo.distributed import batch_shares
from vaezoo.nn.penalties.base import OPTIONS, Encoded, Penalty, draws_of_prior, moments_of, of_batch, prior_of
from vaezoo.nn.penalties.discrepancies import KERNELS, dip, mmd, sliced_wasserstein, total_correlation


class TotalCorrelation(Penalty):
    """beta-TCVAE (Chen et al., 2018): with a weight of beta - 1, the objective has beta times the total correlation.

    On several devices it is the statistic of the whole batch.
    """

    label = "tc"
    is_batch_statistic = True
    needs_moments = True

    def __init__(self, latent_dim: int, *, weight: float = 5.0) -> None:
        super().__init__(weight)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        rows = batch_shares.whole_batch(torch.cat([seen.code, *moments_of(seen, "total_correlation")], 1))
        whole_code, mean, logvar = rows.chunk(3, 1)
        # An evaluation's batch may be larger than a small training set.
        mean_of_batch = total_correlation(whole_code, mean, logvar, max(seen.images or 0, len(rows))).mean()
        return of_batch(mean_of_batch, seen), None


class DIP(Penalty):
    """DIP-VAE (Kumar et al., 2018): the squared distance of the codes' covariance from I (see ``discrepancies.dip``).

    The covariance is that of means for kind ``i`` and of codes for kind ``ii``. ``weight`` is that of covariances, the
    paper's lambda_od, and ``diagonal`` that of variances relative to it, lambda_d / lambda_od; by default 10 for kind i
    and 1 for kind ii, as in disentanglement_lib. On several devices it is the statistic of the whole batch.
    """

    label = "dip"
    is_batch_statistic = True
    needs_moments = True

    def __init__(
        self,
        latent_dim: int,
        *,
        weight: float = 10.0,
        kind: Literal["i", "ii"] = "ii",
        diagonal: float | None = None,
    ) -> None:
        super().__init__(weight)
        self.kind, self.diagonal = kind, {"i": 10.0, "ii": 1.0}[kind] if diagonal is None else float(diagonal)
        at_least(self.diagonal, 0, f"{OPTIONS}.diagonal")

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        mean, logvar = batch_shares.whole_batch(torch.cat(moments_of(seen, "dip"), 1)).chunk(2, 1)
        return of_batch(dip(mean, logvar if self.kind == "ii" else None, self.diagonal), seen), None


class MMD(Penalty):
    """The maximum mean discrepancy of codes and as many new draws of the prior (Tolstikhin et al., 2018).

    ``kernel`` is ``imq`` (the paper's) or ``rbf`` (that of Zhao et al., 2017); see ``discrepancies``. Single values may
    be negative. On several devices it is the statistic of the whole batch.
    """

    label = "mmd"
    is_unbiased_statistic = True
    needs_prior = True

    def __init__(self, latent_dim: int, *, weight: float = 100.0, kernel: Literal["imq", "rbf"] = "imq") -> None:
        super().__init__(weight)
        self.kernel = KERNELS[kernel]

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = batch_shares.whole_batch(seen.code)
        return of_batch(mmd(code, draws_of_prior(prior_of(seen), code, len(code)), self.kernel), seen), None


class SlicedWasserstein(Penalty):
    """The distance of codes from as many new draws of the prior, on random directions (Kolouri et al., 2018).

    On several devices it is the statistic of the whole batch.
    """

    label = "swd"
    is_batch_statistic = True
    needs_prior = True

    def __init__(self, latent_dim: int, *, weight: float = 100.0, projections: int = 50) -> None:
        super().__init__(weight)
        at_least(projections, 1, f"{OPTIONS}.projections")
        self.projections = projections

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = batch_shares.whole_batch(seen.code)
        draws = draws_of_prior(prior_of(seen), code, len(code))
        directions = F.normalize(torch.randn(self.projections, code.shape[1], device=code.device).to(code.dtype))
        return of_batch(sliced_wasserstein(code, draws, directions), seen), None
