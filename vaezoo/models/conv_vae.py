"""The convolutional VAE."""

from typing import Any

from vaezoo.models.vae import VAE


class ConvVAE(VAE):
    """VAE with the convolutional network of Locatello et al. (2019), unless another network is asked for."""

    def __init__(self, *, network: str = "conv", **shared: Any) -> None:
        super().__init__(network=network, **shared)
