"""The sliced Wasserstein autoencoder."""

from typing import Any

from vaezoo.models.ae import AE


class SlicedWAE(AE):
    """Autoencoder whose codes are pulled to the prior by distances on random directions (Kolouri et al., 2018).

    The objective is recon + weight swd: the squared 2-Wasserstein distance of codes and as many draws of the prior,
    mean over 50 directions. That of a batch is larger than that of the set, and not 0 even if codes follow the prior
    (0.29 for batches of 16, 0.02 for 256), so that it is logged in training only. There are samples, but without a
    posterior no kl, elbo, bits per dimension or active units. ``best.ckpt`` is chosen by val/recon, which says nothing
    of samples: see ``prior_fd_classifier`` of ``vaezoo evaluate``.
    """

    def __init__(self, *, prior: str = "normal", penalty: str = "sliced_wasserstein", **shared: Any) -> None:
        super().__init__(prior=prior, penalty=penalty, **shared)
