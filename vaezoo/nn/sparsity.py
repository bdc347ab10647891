"""Sparse codes: how far their activations are from rare ones, and the largest of them."""

import torch
from torch import Tensor

from vaezoo.distributed import batch_shares

LEAST = 1e-6
"""How close to 0 and 1 mean activations may be."""


def bernoulli_kl(activations: Tensor, rho: float) -> Tensor:
    """sum_d KL(Bernoulli(rho) || Bernoulli(mean of a_d)) of activations in (0, 1), in nats: (B, D) -> ().

    The mean is that of the whole batch. The value is biased upwards, the more the smaller the batch.
    """
    mean = batch_shares.whole_batch(activations).mean(0).clamp(LEAST, 1 - LEAST)
    target = torch.full_like(mean, rho)
    divergence = target * (target / mean).log() + (1 - target) * ((1 - target) / (1 - mean)).log()
    return batch_shares.statistic(divergence.sum())


def keep_largest(code: Tensor, k: int) -> Tensor:
    """Codes with all but the ``k`` entries of largest magnitude set to 0: (B, D) -> (B, D)."""
    kept = code.abs().topk(k, dim=1).indices
    return torch.zeros_like(code).scatter(1, kept, code.gather(1, kept))
