"""The MIWAE."""

from typing import Any

from vaezoo.models.vae import VAE


class MIWAE(VAE):
    """VAE trained on the mean of the importance-weighted bounds of several groups of draws (Rainforth et al., 2018).

    Its encoder has a gradient with less noise than that of an IWAE with as many draws, and a looser bound.
    """

    def __init__(self, *, bound: str = "miwae", **shared: Any) -> None:
        super().__init__(bound=bound, **shared)
