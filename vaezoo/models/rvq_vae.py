"""The autoencoder with residual quantisation."""

from typing import Any

from vaezoo.models.vqvae import VQVAE


class RVQVAE(VQVAE):
    """Autoencoder whose codes are sums of codes from several levels, each finer than the one before (Lee et al., 2022).

    The first level quantises the encoder's output, and each further one what those before it leave over. The first
    levels alone are codes of a lower rate, so that one model has a curve of rates and distortions.
    """

    def __init__(self, *, quantizer: str = "rvq", **shared: Any) -> None:
        super().__init__(quantizer=quantizer, **shared)
