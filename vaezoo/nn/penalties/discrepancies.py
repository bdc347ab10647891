"""How a batch of codes differs from draws of a prior, or its dimensions from independent ones. Tensors alone."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaezoo.metrics.divergences import gaussian_log_prob

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Scales of the inverse multiquadratic kernels, relative to the mean squared distance of two draws of N(0, I)."""


Kernel = Callable[[Tensor, int], Tensor]
"""Squared distances and the number of dimensions -> kernel values of the same shape."""


def total_correlation(code: Tensor, mean: Tensor, logvar: Tensor, images: int) -> Tensor:
    """log q(z) - sum_d log q(z_d) of the code of each image, in nats: (B, D) three times -> (B,). Chen et al. (2018).

    q(z) is estimated from the posteriors of the batch by stratified sampling: weight 1/N for an image's own posterior
    and (N - 1) / (N (B - 1)) for the others, with N = ``images`` in the training set. The estimate is biased, and 0
    for a batch of one image. Memory grows with B^2 D. ValueError if the set is smaller than the batch.
    """
    size = len(code)
    if images < size:
        raise ValueError(f"images must be the size of the training set, at least the {size} of the batch, got {images}")
    log_q = gaussian_log_prob(code[:, None], mean, logvar)  # (B, B, D): each code under each posterior
    log_weight = _stratified(size, images, code)
    of_dimensions = (log_q + log_weight[..., None]).logsumexp(1).sum(1)
    return (log_q.sum(2) + log_weight).logsumexp(1) - of_dimensions


def _stratified(size: int, images: int, like: Tensor) -> Tensor:
    """Log weights of posteriors (columns) for each code (rows), whose exponentials add up to 1: (B, B)."""
    if size == 1:
        return like.new_zeros(1, 1)
    others = like.new_full((size, size), math.log((images - 1) / (images * (size - 1))))
    return others.masked_fill(torch.eye(size, dtype=torch.bool, device=like.device), -math.log(images))


def dip(mean: Tensor, logvar: Tensor | None = None, diagonal: float = 1.0) -> Tensor:
    """Squared distance of the codes' covariance C from I: (B, D) twice -> (). Kumar et al. (2018).

    The sum over i != j of C_ij^2, plus ``diagonal`` times that of (C_ii - 1)^2. C is the covariance of the means
    (DIP-VAE-I), with log variances that of the codes (DIP-VAE-II), with 1/B. The squares of a batch's covariances are
    larger than those of the set, by about (C_ii C_jj + C_ij^2) / B.
    """
    centred = mean - mean.mean(0)
    with torch.autocast(mean.device.type, enabled=False):
        covariance = centred.T @ centred / len(centred)
    if logvar is not None:
        covariance = covariance + torch.diag(logvar.exp().mean(0))
    variance = covariance.diagonal()
    off_diagonal = covariance.square().sum() - variance.square().sum()
    return off_diagonal + diagonal * (variance - 1).square().sum()


def imq(squares: Tensor, dimensions: int) -> Tensor:
    """Inverse multiquadratic kernels C / (C + r^2), added up over C = 2 D ``SCALES``; shapes stay.

    2 D is the mean squared distance of two draws of N(0, I). Tolstikhin et al. (2018).
    """
    total = torch.zeros_like(squares)
    for scale in SCALES:
        total = total + 2 * dimensions * scale / (2 * dimensions * scale + squares)
    return total


def rbf(squares: Tensor, dimensions: int) -> Tensor:
    """Gaussian kernel exp(-r^2 / (2 D)), which is 1/e at the mean squared distance of draws of N(0, I); shapes stay."""
    return torch.exp(-squares / (2 * dimensions))


KERNELS: dict[str, Kernel] = {"imq": imq, "rbf": rbf}


def mmd(code: Tensor, draws: Tensor, kernel: Kernel = imq) -> Tensor:
    """Squared maximum mean discrepancy of codes (B, D) and draws of a prior (M, D), without bias: (). Gretton (2012).

    The mean kernel of pairs of codes plus that of pairs of draws, minus twice that of a code and a draw. A code is no
    pair with itself, so that the expectation is the same at every batch size. If both have one distribution, it is 0,
    and many values are negative. A batch of one image has no pairs and gives 0. Memory grows with B M D.
    """
    if min(len(code), len(draws)) < 2:
        return 0 * code.sum()
    dimensions = code.shape[1]
    of_codes, of_draws, between = (
        kernel((one[:, None] - other).square().sum(-1), dimensions)
        for one, other in ((code, code), (draws, draws), (code, draws))
    )
    return _mean_of_pairs(of_codes) + _mean_of_pairs(of_draws) - 2 * between.mean()


def _mean_of_pairs(kernels: Tensor) -> Tensor:
    """The mean without the diagonal: (B, B) -> ()."""
    size = len(kernels)
    return (kernels.sum() - kernels.diagonal().sum()) / (size * (size - 1))


def sliced_wasserstein(code: Tensor, draws: Tensor, directions: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of as many codes and draws in one dimension, (B, D) twice -> (). Kolouri (2018).

    It is the mean over ``directions``, unit vectors (S, D), on which both are projected and sorted. That of a batch is
    larger than that of the distributions, and not 0 if they are the same.
    """
    with torch.autocast(code.device.type, enabled=False):
        one, other = ((values @ directions.T).sort(0).values for values in (code, draws))
    return (one - other).square().mean()
