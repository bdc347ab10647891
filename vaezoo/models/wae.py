"""The Wasserstein autoencoders, whose encoders are deterministic."""

from typing import Any

from vaezoo.models.ae import AE


class WAE(AE):
    """Autoencoder whose codes' distribution is pulled to the prior by an MMD: WAE-MMD (Tolstikhin et al., 2018).

    The objective is recon + weight mmd, with a deterministic encoder. The authors' code minimises 0.05 times the sum of
    squared errors plus lambda mmd, which with a Gaussian likelihood is a weight of 10 lambda / sigma^2: 100 / sigma^2
    for their lambda of 10 on MNIST, and 250 / sigma^2 for 100 on CelebA (pixels in [-1, 1]). There are samples, but
    without a posterior no kl, elbo, bits per dimension or active units. ``best.ckpt`` is chosen by val/recon, which
    says nothing of samples: see ``val/mmd``, which has no bias, and ``prior_fd_classifier`` of ``vaezoo evaluate``. For
    a Gaussian encoder, whose kl is reported and not trained on, set model=info_vae and model.alpha=1.
    """

    def __init__(self, *, prior: str = "normal", penalty: str = "mmd", **shared: Any) -> None:
        super().__init__(prior=prior, penalty=penalty, **shared)
