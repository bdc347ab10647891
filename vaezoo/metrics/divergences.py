"""KL divergence and log density of Gaussians, in nats."""

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent dimension, in nats: (B, D) twice -> (B, D).

    Kingma and Welling (2014), appendix B. ``expm1`` avoids cancellation where logvar is near 0.
    """
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar)


def gaussian_kl_between(mean: Tensor, logvar: Tensor, other_mean: Tensor, other_logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(other_mean, exp(other_logvar))) elementwise, in nats; shapes broadcast."""
    difference = logvar - other_logvar
    squares = (mean - other_mean).square() * torch.exp(-other_logvar)
    return 0.5 * (squares + torch.expm1(difference) - difference)


def gaussian_log_prob(value: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(value; mean, exp(logvar)) elementwise, in nats, with its constant; shapes broadcast."""
    return -0.5 * ((value - mean).square() * torch.exp(-logvar) + logvar + LOG_2PI)
