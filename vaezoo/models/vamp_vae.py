"""The VAE with a VampPrior."""

from typing import Any

from vaezoo.models.vae import VAE


class VampVAE(VAE):
    """VAE whose prior is a mixture of the posteriors of learned pseudo-inputs (Tomczak and Welling, 2018)."""

    def __init__(self, *, prior: str = "vamp", **shared: Any) -> None:
        super().__init__(prior=prior, **shared)
