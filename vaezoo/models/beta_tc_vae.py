"""The beta-TCVAE."""

from typing import Any

from vaezoo.models.vae import VAE


class BetaTCVAE(VAE):
    """VAE whose codes' total correlation weighs beta times as much as the rest of the KL (Chen et al., 2018).

    The objective is recon + kl + (beta - 1) tc, in nats: the paper's equation 4 with alpha = gamma = 1, here with the
    exact KL. So ``penalty_options.weight`` is beta - 1, by default 5 for the paper's beta of 6 on dSprites, where terms
    are sums over pixels and dimensions too. tc is estimated from a batch, with a bias that decreases with its size: so
    it is logged in training only, negative values are usual, and there is no ``val/loss``. For a number to report, use
    ``total_correlation`` of ``vaezoo evaluate``.
    """

    def __init__(self, *, penalty: str = "total_correlation", **shared: Any) -> None:
        super().__init__(penalty=penalty, **shared)
