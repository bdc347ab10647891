"""The CIWAE."""

from typing import Any

from vaezoo.models.vae import VAE


class CIWAE(VAE):
    """VAE trained on a weighted mean of ELBO and importance-weighted bound of the same draws (Rainforth et al., 2018).

    A ``share`` of 0 is the IWAE, and of 1 the VAE, with a KL that is estimated from the draws.
    """

    def __init__(self, *, bound: str = "ciwae", **shared: Any) -> None:
        super().__init__(bound=bound, **shared)
