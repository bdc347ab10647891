"""How many codes of a codebook are used, from counts over a whole set of images.

Counts of batches must be added up first: a mean of perplexities of batches depends on the batch size.
"""

import torch
from torch import Tensor


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of global usage, from 1 to K: counts (K,) -> () in float64. NaN if nothing was counted."""
    shares = counts.double() / counts.double().sum()
    return torch.special.entr(shares).sum().exp()


def codes_used(counts: Tensor) -> Tensor:
    """Share of the codes that occur, in [0, 1]: counts (K,) -> () in float64."""
    return (counts > 0).double().mean()
