"""The FactorVAE."""

from typing import Any

from vaezoo.models.vae import VAE


class FactorVAE(VAE):
    """VAE whose codes' total correlation, estimated by a critic, is penalised (Kim and Mnih, 2018).

    The critic tells codes from codes whose dimensions are permuted over the batch. Its loss is logged as ``critic``.
    """

    def __init__(self, *, penalty: str = "critic_tc", **shared: Any) -> None:
        super().__init__(penalty=penalty, **shared)
