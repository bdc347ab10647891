"""Likelihoods p(x|z): decoder outputs to the log density of an image and to mean pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.choices import LIKELIHOODS
from vaezoo.config.errors import ConfigError
from vaezoo.config.shapes import is_table
from vaezoo.config.validation import above, create
from vaezoo.distributed import batch_shares
from vaezoo.metrics.divergences import gaussian_log_prob

START_MARGIN = 0.01
"""Distance of the mean pixels that decoders start at from 0 and 1, where the gradient of a sigmoid would vanish."""


class Likelihood(nn.Module):
    """Distribution of an image given the decoder outputs, with independent pixels.

    ``discrete`` marks probabilities instead of densities; only then are bits per dimension meaningful.
    ``is_gaussian`` marks Gaussians with one variance for all pixels, comparable with probabilistic PCA. ``highest`` is
    the largest probability or density of a pixel; up to 1, recon is never negative.

    ``is_bounded`` is whether pixels are in [0, 1]. Values of a table are not; only some likelihoods, those that
    ``can_be_unbounded``, are densities of any number, and then decoder outputs are their means as they are.
    """

    discrete = False
    is_gaussian = False
    highest = math.inf
    can_be_unbounded = False
    is_bounded = True
    unsupported = (
        "the likelihood is not defined on these images, so its recon is not comparable with that of other likelihoods;"
        " choose another model.likelihood"
    )
    """What to say of images that it does not support."""

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """log p(x|z) summed over pixels and channels, in nats: (B, C, H, W) twice -> (B,)."""
        raise NotImplementedError

    def nll(self, x: Tensor, outputs: Tensor) -> Tensor:
        """-log p(x|z), the reconstruction term, in nats: (B, C, H, W) twice -> (B,)."""
        return -self.log_prob(x, outputs)

    def mean(self, outputs: Tensor) -> Tensor:
        """E[x|z], the pixels to display, in [0, 1] if they are bounded: (B, C, H, W) -> (B, C, H, W)."""
        return torch.sigmoid(outputs) if self.is_bounded else outputs

    def outputs_near(self, mean: Tensor) -> Tensor:
        """Decoder outputs to start from, whose ``mean`` is about these pixels: their logits, kept from saturation."""
        if not self.is_bounded:
            return mean
        return torch.logit(mean.clamp(START_MARGIN, 1 - START_MARGIN))

    def supports(self, x: Tensor) -> Tensor:
        """Whether every pixel of an image is in the support of the distribution: (B, C, H, W) -> (B,)."""
        return (((x >= 0) & (x <= 1)) if self.is_bounded else x.isfinite()).flatten(1).all(1)

    def describe(self) -> str:
        """The likelihood as text, with its constants."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Bernoulli for pixels of 0 or 1; for grey levels its value is a cross-entropy, not a log probability."""

    discrete = True
    highest = 1.0
    unsupported = (
        "the images are not binary, so the Bernoulli recon is a cross-entropy, not a likelihood, and is not comparable"
        " with that of other likelihoods; data.binarize=dynamic or model.likelihood=continuous_bernoulli gives a proper"
        " likelihood"
    )

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return -self.nll(x, outputs)

    def nll(self, x: Tensor, outputs: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum((1, 2, 3))

    def supports(self, x: Tensor) -> Tensor:
        return ((x == 0) | (x == 1)).flatten(1).all(1)

    def describe(self) -> str:
        return "Bernoulli"


class ContinuousBernoulli(Likelihood):
    """The Bernoulli normalised to a density on [0, 1] (Loaiza-Ganem and Cunningham, 2019).

    log p(x) = eta x - log((exp(eta) - 1) / eta), with the decoder output as the natural parameter eta. It is computed
    relative to x = 1/2, where the constant is even in eta, and is exact for any eta; torch's version clamps the
    constant only.
    """

    SMALL = 0.3
    """Below this magnitude, a series is more accurate than the closed form."""

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return (outputs * (x - 0.5) - self._log_sinhc(outputs / 2)).flatten(1).sum(1)

    def mean(self, outputs: Tensor) -> Tensor:
        half = outputs / 2
        small = half.abs() < self.SMALL
        safe = torch.where(small, 1.0, half)
        series = half / 3 - half**3 / 45 + 2 * half**5 / 945
        return 0.5 + 0.5 * torch.where(small, series, 1 / torch.tanh(safe) - 1 / safe)

    def describe(self) -> str:
        return "continuous Bernoulli"

    def _log_sinhc(self, value: Tensor) -> Tensor:
        """log(sinh(v) / v), elementwise."""
        size = value.abs()
        small = size < self.SMALL
        safe = torch.where(small, 1.0, size)  # the gradient of the unused branch must be finite too
        series = size**2 / 6 - size**4 / 180 + size**6 / 2835
        return torch.where(small, series, safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe))


class Gaussian(Likelihood):
    """N(mean, sigma^2) with one fixed ``sigma`` (for pixels in [0, 1]); ConfigError if it is not positive."""

    can_be_unbounded = True
    is_gaussian = True
    logvar: Tensor

    def __init__(self, *, sigma: float = 0.1) -> None:
        super().__init__()
        above(sigma, 0, "model.likelihood_options.sigma")
        self.sigma = float(sigma)
        self.highest = 1 / (math.sqrt(2 * math.pi) * self.sigma)
        self.register_buffer("logvar", torch.tensor(2 * math.log(sigma)), persistent=False)

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        return gaussian_log_prob(x, self.mean(outputs), self.logvar).flatten(1).sum(1)

    def describe(self) -> str:
        return f"Gaussian with sigma fixed at {self.sigma:g}"


class FittedGaussian(Gaussian):
    """N(mean, sigma^2) around decoder outputs that are pixels already, with a ``sigma`` fitted after training."""

    name = "fitted_gaussian"

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs

    def outputs_near(self, mean: Tensor) -> Tensor:
        return mean

    def describe(self) -> str:
        return f"Gaussian with sigma {self.sigma:.4g}, fitted to validation images after training"


class LearnedGaussian(Likelihood):
    """N(mean, sigma^2) with one learned sigma for all pixels (sigma-VAE, Rybkin et al., 2021).

    ``sigma="shared"`` is a trainable parameter. ``sigma="optimal"`` is the closed form sigma^2 = MSE of each training
    batch, and outside of training the exponential of a running mean of log sigma: a sigma fitted to the image that it
    scores would not give a density. ConfigError for other values.
    """

    can_be_unbounded = True
    is_gaussian = True
    MOMENTUM = 0.01
    FLOOR = math.log(1e-3)
    """Minimum log sigma, a quarter of a grey level; without it, perfect reconstructions have unbounded likelihood."""

    log_sigma: Tensor
    batches: Tensor

    def __init__(self, *, sigma: str = "shared") -> None:
        super().__init__()
        if sigma not in ("shared", "optimal"):
            raise ConfigError(f"model.likelihood_options.sigma must be shared or optimal, got {sigma!r}")
        self.optimal = sigma == "optimal"
        if self.optimal:
            self.register_buffer("log_sigma", torch.zeros(()))
            self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        else:
            self.log_sigma = nn.Parameter(torch.zeros(()))

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        mean = self.mean(outputs)
        log_sigma = self._fit(x, mean) if self.optimal and self.training else self.log_sigma
        return gaussian_log_prob(x, mean, 2 * log_sigma.clamp(min=self.FLOOR)).flatten(1).sum(1)

    def describe(self) -> str:
        kind = "optimal for each batch" if self.optimal else "learned"
        return f"Gaussian with one sigma, {kind}, now {math.exp(max(self.log_sigma.item(), self.FLOOR)):.3g}"

    @torch.no_grad()
    def _fit(self, x: Tensor, mean: Tensor) -> Tensor:
        """log sigma of this batch, detached (which gives the gradient of log MSE); updates the running mean."""
        log_sigma = 0.5 * batch_shares.mean((x - mean).square()).clamp(min=1e-12).log()
        weight = torch.where(self.batches == 0, 1.0, self.MOMENTUM)
        self.log_sigma.lerp_(log_sigma.to(self.log_sigma.dtype), weight)
        self.batches += 1
        return log_sigma


class DiscretizedLogistic(Likelihood):
    """Distribution over 256 grey levels: the mass of a logistic in each level's bin (Kingma et al., 2016).

    The scale is one learned number. The first and last bins extend to infinity, so that the masses sum to 1. ``mean``
    is the logistic's centre, which differs slightly from E[x|z] because of these two bins.
    """

    discrete = True
    highest = 1.0
    HALF_BIN = 0.5 / 255

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-2.0))

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        distance = x - torch.sigmoid(outputs)
        inverse = torch.exp(-self.log_scale)
        upper, lower = inverse * (distance + self.HALF_BIN), inverse * (distance - self.HALF_BIN)
        # log(sigmoid(upper) - sigmoid(lower)) without the difference of two numbers near 1 or near 0
        width = 2 * self.HALF_BIN * inverse
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        log_mass = torch.where(x < self.HALF_BIN, F.logsigmoid(upper), inside)
        log_mass = torch.where(x > 1 - self.HALF_BIN, F.logsigmoid(-lower), log_mass)
        return log_mass.flatten(1).sum(1)

    def supports(self, x: Tensor) -> Tensor:
        levels = 255 * x
        near = (levels - levels.round()).abs() < 1e-3
        return (near & (x >= 0) & (x <= 1)).flatten(1).all(1)

    def describe(self) -> str:
        return f"discretised logistic on 256 levels with one learned scale, now {math.exp(self.log_scale.item()):.3g}"


class _Scaled(Likelihood):
    """A density of (x - mean) / scale with one ``scale`` (for pixels in [0, 1]), fixed or, if ``shared``, learned.

    ConfigError if it is neither positive nor ``shared``.
    """

    can_be_unbounded = True
    FLOOR = math.log(1e-3)
    """Minimum log scale, if it is learned; without it, perfect reconstructions have unbounded likelihood."""

    name: str
    log_scale: Tensor

    def __init__(self, *, scale: float | str = 0.1) -> None:
        super().__init__()
        self.scale = scale
        if scale == "shared":
            self.log_scale = nn.Parameter(torch.zeros(()))
        elif isinstance(scale, str):
            raise ConfigError(f"model.likelihood_options.scale must be a number or shared, got {scale!r}")
        else:
            above(scale, 0, "model.likelihood_options.scale")
            self.highest = math.exp(self.log_density(torch.zeros((), device="cpu")).item()) / scale

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        error = x - self.mean(outputs)
        if isinstance(self.scale, str):
            log_scale = self.log_scale.clamp(min=self.FLOOR)
            return (self.log_density(error * torch.exp(-log_scale)) - log_scale).flatten(1).sum(1)
        return (self.log_density(error / self.scale) - math.log(self.scale)).flatten(1).sum(1)

    def log_density(self, value: Tensor) -> Tensor:
        """Log density at scale 1, elementwise."""
        raise NotImplementedError

    def describe(self) -> str:
        if isinstance(self.scale, str):
            return f"{self.name} with one learned scale, now {math.exp(max(self.log_scale.item(), self.FLOOR)):.3g}"
        return f"{self.name} with scale fixed at {self.scale:g}"


class Laplace(_Scaled):
    """Laplace distribution of ``scale`` b: recon is |x - mean| / b + log 2b for each pixel.

    A loss |x - mean| without a factor, on pixels in [0, 1], is b = 1; on pixels in [-1, 1] it is b = 1/2.
    """

    name = "Laplace"

    def log_density(self, value: Tensor) -> Tensor:
        return -value.abs() - math.log(2)


class LogCosh(_Scaled):
    """Hyperbolic secant distribution of ``scale`` s: recon is log cosh((x - mean) / s) + log(pi s).

    It is like a Gaussian of sigma s for small errors, and like a Laplace distribution of scale s for large ones. A loss
    log(cosh(a (x - mean))) / a beside a KL, as of LogCosh-VAEs, is s = 1/a with the KL weighed by a.
    """

    name = "hyperbolic secant"

    def log_density(self, value: Tensor) -> Tensor:
        size = value.abs()  # log cosh u = |u| + softplus(-2|u|) - log 2, which does not overflow
        return -(size + F.softplus(-2 * size)) + math.log(2) - math.log(math.pi)


_CLASSES: dict[str, type[Likelihood]] = dict(
    zip(
        LIKELIHOODS,
        (Bernoulli, ContinuousBernoulli, Gaussian, LearnedGaussian, DiscretizedLogistic, Laplace, LogCosh),
        strict=True,
    )
)


def make_likelihood(
    name: str, options: Mapping[str, Any] | None = None, *, image_shape: Sequence[int] = ()
) -> Likelihood:
    """The likelihood called ``name`` of data of that shape.

    ConfigError for an unknown name or option, and for rows of a table if it is one of pixels in [0, 1].
    """
    made = create("model.likelihood", _CLASSES, name, options)
    if is_table(image_shape):
        known = [each for each in LIKELIHOODS if _CLASSES[each].can_be_unbounded]
        if not made.can_be_unbounded:
            raise ConfigError(
                f"model.likelihood={name} is of pixels in [0, 1], and the data are rows of a table, with any values;"
                f" choose {', '.join(known[:-1])} or {known[-1]}"
            )
        made.is_bounded = False
    return made
