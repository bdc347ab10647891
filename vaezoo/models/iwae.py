"""The importance-weighted autoencoder."""

from typing import Any

from vaezoo.models.vae import VAE


class IWAE(VAE):
    """VAE trained on the importance-weighted bound of several draws (Burda et al., 2016).

    The estimator ``dreg`` has the lower variance of Tucker et al. (2019), ``plain`` is that of the paper.
    """

    def __init__(self, *, bound: str = "iwae", **shared: Any) -> None:
        super().__init__(bound=bound, **shared)
