"""Terms of the objectives as pure functions of tensors, in nats. They know nothing of modules, configs and logging."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass
class Terms:
    """What one batch costs, term by term and image by image, in nats; no term carries a weight.

    ``recon`` (B,) is -log p(x|z), summed over pixels and channels. ``kl`` (B, D) is the divergence of each latent
    dimension's posterior from its prior; a model without a posterior has D = 0. ``penalties`` holds further terms (B,)
    by their own names. ``code`` (B, D) is what the images are encoded to without noise, so the mean of a posterior: a
    model that gives it is not asked to encode the same images again when it is evaluated.
    """

    recon: Tensor
    kl: Tensor
    penalties: dict[str, Tensor] = field(default_factory=dict)
    code: Tensor | None = None
    rate: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.rate = self.kl.sum(1)

    @property
    def has_posterior(self) -> bool:
        """Whether there is a rate at all; without one there is no evidence lower bound either."""
        return self.kl.shape[1] > 0

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound log p(x|z) - KL, at beta = 1 whatever was trained on, in nats: (B,)."""
        return -self.recon - self.rate


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent dimension, in nats: (B, D) -> (B, D).

    Kingma and Welling (2014), appendix B. ``expm1`` keeps it from losing its digits where logvar is near 0.
    """
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar)


def gaussian_log_prob(value: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(value; mean, exp(logvar)) element by element, in nats, with its normalising constant."""
    return -0.5 * ((value - mean).square() * torch.exp(-logvar) + logvar + LOG_2PI)
