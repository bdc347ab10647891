"""References that put metrics on a scale: PCA, an untrained encoder, and the factors as codes."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaezoo.config.shapes import is_table
from vaezoo.data.images import Factor
from vaezoo.metrics.components import principal_components
from vaezoo.metrics.divergences import LOG_2PI
from vaezoo.nn.interpolation import METHODS

LEAST_SIGMA = 1e-3
"""Lower bound of pPCA's noise: a quarter of a grey level, as for the learned Gaussian likelihood."""


class PCA(nn.Module):
    """Principal component analysis, the best linear autoencoder, with the image API of a model without posterior.

    Codes are scaled to variance 1, so that N(0, I) can serve as their prior.

    Args:
        images: training images (N, C, H, W) with pixels in [0, 1].
        latent_dim: number of components; those beyond the rank of the images are 0.
    """

    mixture: Any = None
    center: Tensor
    directions: Tensor
    scales: Tensor
    sigma: Tensor

    def __init__(self, images: Tensor, latent_dim: int) -> None:
        super().__init__()
        self.image_shape = tuple(images.shape[1:])
        self.latent_dim = latent_dim
        center, directions, variances, total = principal_components(images.flatten(1), latent_dim)
        left = images[0].numel() - latent_dim
        noise = max(0.0, total - float(variances.sum())) / left if left > 0 else 0.0
        self.register_buffer("center", center.float())
        self.register_buffer("directions", directions.float())
        self.register_buffer("scales", variances.sqrt().float())
        self.register_buffer("sigma", torch.tensor(max(math.sqrt(noise), LEAST_SIGMA)))

    def encode(self, x: Tensor) -> Tensor:
        """Scores on the principal components, scaled to variance 1: (B, C, H, W) -> (B, D)."""
        scores = (x.flatten(1) - self.center) @ self.directions.T
        return torch.where(self.scales > 0, scores / self.scales, 0.0)

    def decode(self, code: Tensor) -> Tensor:
        """Pixels clamped to [0, 1], values of a table as they are: (B, D) -> (B, C, H, W)."""
        pixels = self.center + (code * self.scales) @ self.directions
        return (pixels if is_table(self.image_shape) else pixels.clamp(0, 1)).unflatten(1, self.image_shape)

    def given(self, labels: Tensor, end_labels: Tensor | None = None) -> "PCA":
        """Itself: it does not see labels."""
        return self

    def posterior(self, x: Tensor) -> None:
        """None: the code of an image is a point."""
        return None

    def prior(self) -> None:
        """None: without a posterior there is no prior."""
        return None

    def path_code(self, x: Tensor) -> Tensor:
        """Codes between which paths are drawn: (B, C, H, W) -> (B, D)."""
        return self.encode(x)

    def project(self, code: Tensor) -> Tensor:
        """Codes as they are: any code can be decoded."""
        return code

    @property
    def code_bits(self) -> int:
        """32 bits for each component."""
        return 32 * self.latent_dim

    def reconstruct(self, x: Tensor) -> Tensor:
        """Projection of images onto the principal components: (B, C, H, W) -> (B, C, H, W)."""
        return self.decode(self.encode(x))

    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str = "linear") -> Tensor:
        """Decoded codes on paths between images (B, C, H, W), both ends included: (B, steps, C, H, W)."""
        codes = METHODS[method](self.encode(start), self.encode(end), steps)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded draws from N(0, I): (count, C, H, W)."""
        device = self.center.device if generator is None else generator.device
        return self.decode(torch.randn(count, self.latent_dim, generator=generator, device=device).to(self.center))

    def log_likelihood_of_images(self, x: Tensor) -> Tensor:
        """Exact log p(x) under probabilistic PCA (Tipping and Bishop, 1999), in nats: (B, C, H, W) -> (B,), float64.

        x ~ N(center, W W' + sigma^2 I), with sigma^2 the mean variance of the discarded directions, which maximises the
        likelihood unless sigma is at its lower bound ``LEAST_SIGMA``. A density of pixels in [0, 1]: compare it only
        with Gaussian likelihoods.
        """
        noise = self.sigma.double().square()
        variances = self.scales.double().square().clamp(min=noise)
        difference = (x.flatten(1) - self.center).double()
        scores = difference @ self.directions.double().T
        left = difference.square().sum(1) - scores.square().sum(1)
        distance = (scores.square() / variances).sum(1) + left / noise
        others = difference.shape[1] - len(variances)
        return -0.5 * (distance + variances.log().sum() + others * noise.log() + difference.shape[1] * LOG_2PI)


def untrained(model: Any, seed: int = 0) -> Any:
    """A model of the same class and settings with initial weights that depend only on ``seed``, in evaluation mode.

    Global random state is neither read nor changed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(**copy.deepcopy(dict(model.hparams)))
    return fresh.to(model.device).eval()


def factor_codes(labels: Tensor, factors: Sequence[Factor]) -> Tensor:
    """The factors as codes, one dimension per factor: classes (B,) or (B, F) -> (B, F).

    Each dimension is standardised to mean 0 and variance 1 for equally frequent values; a factor with one value is 0.
    """
    classes = labels.reshape(len(labels), -1).float()
    counts = torch.tensor([len(factor.values) for factor in factors], dtype=torch.float32, device=labels.device)
    std = ((counts.square() - 1) / 12).sqrt()  # of the integers 0 to n - 1
    return torch.where(counts > 1, (classes - (counts - 1) / 2) / std, 0.0)
