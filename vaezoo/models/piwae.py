"""The PIWAE."""

from typing import Any

from vaezoo.models.vae import VAE


class PIWAE(VAE):
    """VAE with the IWAE's bound for the decoder and the MIWAE's for the encoder (Rainforth et al., 2018).

    More draws improve the gradient of a decoder but not that of an encoder, for which they are split into groups. It
    costs a second pass through the decoder. A learned prior is trained with the decoder.
    """

    def __init__(self, *, bound: str = "piwae", **shared: Any) -> None:
        super().__init__(bound=bound, **shared)
