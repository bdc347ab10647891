"""The VAE with an inverse autoregressive flow as posterior."""

from typing import Any

from vaezoo.models.vae import VAE


class IAFVAE(VAE):
    """VAE whose posterior is a diagonal Gaussian after inverse autoregressive steps (Kingma et al., 2016).

    It minimises recon + kl, in nats, with the KL divergence E[log q(z|x) - log p(z)] estimated from the draw of the
    code that recon is of. A step is z <- s z + (1 - s) m with s = sigmoid(gate), as in the paper, whose residual
    networks and free bits are left out; the base starts wider by what the gates take away.

    The code of an image is the image of the base's mean, which is not the mean of the posterior. Not available: the KL
    of each dimension, the density of given codes, and with it the decomposition of the KL and the DReG gradient.
    """

    def __init__(self, *, posterior: str = "iaf", **shared: Any) -> None:
        super().__init__(posterior=posterior, **shared)
