"""The autoencoder with finite scalar quantisation."""

from typing import Any

from vaezoo.models.vqvae import VQVAE


class FSQVAE(VQVAE):
    """Autoencoder whose code channels are rounded to a few levels each (Mentzer et al., 2023).

    It minimises recon alone: there is no codebook to learn, to start or to restart.
    """

    def __init__(self, *, quantizer: str = "fsq", **shared: Any) -> None:
        super().__init__(quantizer=quantizer, **shared)
