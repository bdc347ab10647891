"""The vector-quantised autoencoder that is trained against a discriminator."""

from typing import Any

from vaezoo.models.vqvae import VQVAE


class VQGAN(VQVAE):
    """VQ-VAE whose decoder must also deceive a discriminator of patches (Esser et al., 2021).

    The objective is recon + ``commitment`` times the commitment + weight ratio generator: the hinge loss of the decoder
    is weighed by the ratio of its gradient to that of recon at the decoder's last layer, from a step on at which recon
    has settled.
    """

    def __init__(self, *, discriminator: str | None = "patches", **shared: Any) -> None:
        super().__init__(discriminator=discriminator, **shared)
