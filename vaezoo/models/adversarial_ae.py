"""The adversarial autoencoder."""

from typing import Any

from vaezoo.models.ae import AE


class AdversarialAE(AE):
    """Autoencoder whose codes a critic cannot tell from draws of the prior (Makhzani et al., 2016).

    The objective is recon + weight softplus(-critic(code)), with a deterministic encoder. The critic is trained in the
    same step on draws of the prior and on codes; the paper alternates steps with optimisers of their own and needs no
    weight. Its loss is logged as ``critic``: 2 log 2 = 1.386 if it cannot tell them apart. There are samples, but
    without a posterior no kl, elbo, bits per dimension or active units, and what a critic says is logged in training
    only. ``best.ckpt`` is chosen by val/recon, which says nothing of samples: see ``prior_fd_classifier`` of ``vaezoo
    evaluate``.
    """

    def __init__(self, *, prior: str = "normal", penalty: str = "adversarial", **shared: Any) -> None:
        super().__init__(prior=prior, penalty=penalty, **shared)
