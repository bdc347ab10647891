"""The denoising autoencoder."""

from typing import Any

from vaezoo.models.ae import AE


class DenoisingAE(AE):
    """AE that reconstructs clean images from corrupted ones (Vincent et al., 2008).

    It minimises E[-log p(x | encode(corrupted x))] in nats per image, the expectation over the noise. Only training is
    with noise; ``val/recon`` is of clean images, and ``val/recon_corrupted`` of corrupted ones, on the same noise each
    time. Noise of sigma 0 gives the AE. There is no posterior: no ELBO, no likelihood of images and no samples, except
    from a mixture fitted to the codes.
    """

    def __init__(self, *, corruption: str | None = "gaussian", **shared: Any) -> None:
        super().__init__(corruption=corruption, **shared)
