"""The VAE with a normalising flow as posterior."""

from typing import Any

from vaezoo.models.vae import VAE


class FlowVAE(VAE):
    """VAE whose posterior is a diagonal Gaussian after planar or radial steps (Rezende and Mohamed, 2015).

    It minimises recon + kl, in nats, with the KL divergence E[log q(z|x) - log p(z)] estimated from the draw of the
    code that recon is of: log q(z|x) is the density of the base minus the logarithm of each step's Jacobian
    determinant. The encoder gives the parameters of all steps, as in the paper. The paper's results on MNIST are with
    10 to 80 steps; the default here is 10.

    The code of an image is the image of the base's mean, which is not the mean of the posterior. Not available: the KL
    of each dimension, the density of given codes, and with it the decomposition of the KL and the DReG gradient.
    """

    def __init__(self, *, posterior: str = "planar", **shared: Any) -> None:
        super().__init__(posterior=posterior, **shared)
