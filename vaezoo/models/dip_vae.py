"""The DIP-VAE."""

from typing import Any

from vaezoo.models.vae import VAE


class DIPVAE(VAE):
    """VAE whose codes' covariance over images is pulled to the identity (Kumar et al., 2018).

    The objective is recon + kl + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2. In ``penalty_options``,
    ``weight`` is lambda_od, ``diagonal`` is lambda_d / lambda_od, and ``kind`` says whether C is the covariance of
    posterior means (i) or of drawn codes (ii). By default ``diagonal`` is 10 for i and 1 for ii, as in the study of
    disentanglement_lib, where recon is a sum over pixels too; a ``weight`` of 10 is one of several there. The squares
    of a batch's covariances are larger than those of the set, so that ``dip`` is logged in training only, and there is
    no ``val/loss``.
    """

    def __init__(self, *, penalty: str = "dip", **shared: Any) -> None:
        super().__init__(penalty=penalty, **shared)
