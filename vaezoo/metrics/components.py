"""Principal components of vectors (N, P), such as images or codes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ROUNDING = 1e-6
"""Variances below this fraction of the largest are rounding errors of single precision, and set to 0."""


class Components(NamedTuple):
    """Principal components; variances are maximum-likelihood estimates (divided by N), in float64."""

    center: Tensor
    """Mean of the vectors: (P,)."""
    directions: Tensor
    """Orthonormal rows, that with the largest variance first; zeros beyond the rank of the vectors: (count, P)."""
    variances: Tensor
    """(count,); 0 beyond the rank."""
    total: float
    """Sum of the variances of all P coordinates."""


def principal_components(values: Tensor, count: int) -> Components:
    """The first ``count`` principal components of vectors (N, P), on the CPU.

    Those of very many vectors and coordinates are found by a randomised method with a fixed seed.
    """
    from sklearn.decomposition import PCA

    flat = values.detach().cpu()
    center = flat.mean(0)
    flat = flat - center  # scikit-learn subtracts the mean from products in single precision, and loses small variances
    found = min(count, *flat.shape)
    with np.errstate(invalid="ignore"):  # explained variance ratios are 0 / 0 for constant vectors
        fitted = PCA(found, random_state=0).fit(flat.numpy())
    directions = torch.zeros(count, flat.shape[1], dtype=torch.double)
    variances = torch.zeros(count, dtype=torch.double)
    directions[:found] = torch.from_numpy(fitted.components_)
    variances[:found] = torch.from_numpy(fitted.explained_variance_) * ((len(flat) - 1) / len(flat))
    variances[variances <= ROUNDING * variances.max()] = 0
    return Components(center, directions, variances, float(flat.square().sum(dtype=torch.double)) / len(flat))
