"""The denoising VAE."""

from typing import Any

from vaezoo.models.vae import VAE


class DenoisingVAE(VAE):
    """VAE whose encoder sees corrupted images in training (Im et al., 2017).

    It minimises E[-log p(x|z) + KL(q(z | corrupted x) || p(z))] in nats per image, the expectation over noise and
    codes: a bound on -log p(x), though that of the posterior averaged over the noise is at least as tight. Validation
    and test are of clean images, and ``val/elbo`` is that of a VAE. Noise of sigma 0 gives the VAE.
    """

    def __init__(self, *, corruption: str | None = "gaussian", **shared: Any) -> None:
        super().__init__(corruption=corruption, **shared)
