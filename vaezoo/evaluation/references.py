"""Rows that no training made, and that show what a metric is worth: PCA, an untrained encoder, the factors themselves.

They know the image API and no metric.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaezoo.data.images import Factor
from vaezoo.metrics.divergences import LOG_2PI
from vaezoo.nn.interpolation import METHODS

LEAST_SIGMA = 1e-3
"""A quarter of a grey level, the floor under the noise of pPCA, as the learned Gaussian likelihood has it."""
ROUNDING = 1e-6
"""Variances below this share of the largest are what single precision leaves of none."""


class PCA(nn.Module):
    """The best linear autoencoder, with the image API of a model that has no posterior.

    Codes are the principal components brought to variance 1, so that a standard normal is a prior for them.

    Args:
        images: training images (N, C, H, W) with pixels in [0, 1]; as many as memory allows.
        latent_dim: components; those beyond what the images span are 0.
    """

    center: Tensor
    directions: Tensor
    scales: Tensor
    sigma: Tensor

    def __init__(self, images: Tensor, latent_dim: int) -> None:
        super().__init__()
        self.image_shape = tuple(images.shape[1:])
        self.latent_dim = latent_dim
        center, directions, variances, total = _principal_components(images, latent_dim)
        left = images[0].numel() - latent_dim
        noise = max(0.0, total - float(variances.sum())) / left if left > 0 else 0.0
        self.register_buffer("center", center.float())
        self.register_buffer("directions", directions.float())
        self.register_buffer("scales", variances.sqrt().float())
        self.register_buffer("sigma", torch.tensor(max(math.sqrt(noise), LEAST_SIGMA)))

    def encode(self, x: Tensor) -> Tensor:
        """Scores on the principal components, of variance 1 over the training images: (B, C, H, W) -> (B, D)."""
        scores = (x.flatten(1) - self.center) @ self.directions.T
        return torch.where(self.scales > 0, scores / self.scales, 0.0)

    def decode(self, code: Tensor) -> Tensor:
        """Pixels of each code, kept within [0, 1]: (B, D) -> (B, C, H, W)."""
        pixels = self.center + (code * self.scales) @ self.directions
        return pixels.clamp(0, 1).unflatten(1, self.image_shape)

    def posterior(self, x: Tensor) -> None:
        """None: an image has a point for its code."""
        return None

    def log_prior(self, code: Tensor) -> None:
        """None, as there is no posterior to hold against it."""
        return None

    def reconstruct(self, x: Tensor) -> Tensor:
        """The projection of each image on the principal components: (B, C, H, W) -> (B, C, H, W)."""
        return self.decode(self.encode(x))

    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str = "linear") -> Tensor:
        """Decoded codes on the way from one image to another, both ends included: -> (B, steps, C, H, W)."""
        codes = METHODS[method](self.encode(start), self.encode(end), steps)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded draws from the standard normal: (count, C, H, W)."""
        device = self.center.device if generator is None else generator.device
        return self.decode(torch.randn(count, self.latent_dim, generator=generator, device=device).to(self.center))

    def log_likelihood_of_images(self, x: Tensor) -> Tensor:
        """Exact log p(x) under probabilistic PCA (Tipping and Bishop, 1999), in nats: (B, C, H, W) -> (B,), float64.

        x ~ N(center, W W' + sigma^2 I), with sigma^2 the mean variance of the directions left out: the maximum of the
        likelihood, unless sigma is at its floor ``LEAST_SIGMA``. A density of pixels in [0, 1], to be put beside
        Gaussian likelihoods alone.
        """
        noise = self.sigma.double().square()
        variances = self.scales.double().square().clamp(min=noise)
        difference = (x.flatten(1) - self.center).double()
        scores = difference @ self.directions.double().T
        left = difference.square().sum(1) - scores.square().sum(1)
        distance = (scores.square() / variances).sum(1) + left / noise
        others = difference.shape[1] - len(variances)
        return -0.5 * (distance + variances.log().sum() + others * noise.log() + difference.shape[1] * LOG_2PI)


def _principal_components(images: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Mean (P,), directions (D, P) and variances (D,) of the components, and the variance of all P pixels together.

    Maximum-likelihood variances, over N. Components beyond what the images span have variance 0.
    """
    from sklearn.decomposition import PCA as Decomposition

    flat = images.flatten(1).cpu()
    center = flat.mean(0)
    flat = flat - center  # scikit-learn would take the mean off products in single precision, and lose small variances
    found = min(count, *flat.shape)
    with np.errstate(invalid="ignore"):  # shares of no variance at all
        fitted = Decomposition(found, random_state=0).fit(flat.numpy())  # seeded: many pixels are done by chance
    directions = torch.zeros(count, flat.shape[1], dtype=torch.double)
    variances = torch.zeros(count, dtype=torch.double)
    directions[:found] = torch.from_numpy(fitted.components_)
    variances[:found] = torch.from_numpy(fitted.explained_variance_) * ((len(flat) - 1) / len(flat))
    variances[variances <= ROUNDING * variances.max()] = 0
    return center, directions, variances, float(flat.square().sum(dtype=torch.double)) / len(flat)


def untrained(model: Any, seed: int = 0) -> Any:
    """A model of the same class and settings with fresh weights, which depend on ``seed`` alone; in evaluation mode.

    No global random state is read or changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(**copy.deepcopy(dict(model.hparams)))
    return fresh.to(model.device).eval()


def factor_codes(labels: Tensor, factors: Sequence[Factor]) -> Tensor:
    """The factors as a code: one dimension each, in the order of its values: (B,) or (B, F) of classes -> (B, F).

    Each has mean 0 and variance 1 over the factor's values taken equally often, as codes under a standard normal prior
    have; a factor of one value is 0.
    """
    classes = labels.reshape(len(labels), -1).float()
    counts = torch.tensor([len(factor.values) for factor in factors], dtype=torch.float32, device=labels.device)
    std = ((counts.square() - 1) / 12).sqrt()  # of the numbers 0 to n - 1
    return torch.where(counts > 1, (classes - (counts - 1) / 2) / std, 0.0)
