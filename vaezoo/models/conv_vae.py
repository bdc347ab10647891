"""The convolutional VAE."""

from typing import Any

from vaezoo.models.vae import VAE


class ConvVAE(VAE):
    """VAE whose default network is convolutional (Locatello et al., 2019)."""

    def __init__(self, *, network: str = "conv", **shared: Any) -> None:
        super().__init__(network=network, **shared)
