"""The VAE with codes on a sphere."""

from typing import Any

from vaezoo.models.vae import VAE


class SphericalVAE(VAE):
    """VAE with codes on the unit sphere and a uniform prior there (Davidson et al., 2018).

    It minimises recon + kl, in nats, with the exact KL divergence of a Power Spherical posterior (De Cao and Aziz,
    2020), whose draws need no rejections; the paper's von Mises-Fisher is ``model.posterior=von_mises_fisher`` for
    ``model.latent_dim=3``. kappa is softplus + 1 as in the paper's code, but starts at ``latent_dim``. The sphere in
    ``latent_dim`` coordinates has one dimension less: compare it with a VAE of ``latent_dim`` - 1.

    The code of an image is the direction with the highest density. Not available: the KL and the traversal of each
    coordinate, and the total correlation. The density is 0 opposite to that direction, so that importance weights have
    no finite variance for kappa from (``latent_dim`` - 1) / 2 up: read ``iw_bound`` with its ``iw_ess``.
    """

    def __init__(self, *, posterior: str = "power_spherical", prior: str = "uniform_sphere", **shared: Any) -> None:
        super().__init__(posterior=posterior, prior=prior, **shared)
