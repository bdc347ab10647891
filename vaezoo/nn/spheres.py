"""Distributions on the unit sphere S^(D-1) in D dimensions: densities, draws and KL divergences, in nats.

Normalisers are computed in double precision, because they are differences of large numbers.
"""

import math
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 4
"""Newton steps of a quantile, enough for rounding at shapes above 1 and 6 standard deviations."""
STEP = 1e-4
"""Step of numerical derivatives with respect to a shape, relative to the standard deviation of the Gamma variable."""
SMALLEST = 1e-12
"""Squared norms below it are taken for 0."""


def log_area(dimension: int) -> float:
    """Logarithm of the surface of the unit sphere in ``dimension`` dimensions: log 2 pi^(D/2) / Gamma(D/2)."""
    return math.log(2) + dimension / 2 * math.log(math.pi) - math.lgamma(dimension / 2)


def on_sphere(code: Tensor) -> Tensor:
    """The code divided by its norm, (..., D) -> (..., D); the first unit vector for a code of 0."""
    square = code.square().sum(-1, keepdim=True)
    known = square > SMALLEST**2
    return torch.where(known, code, _first_unit(code)) * torch.where(known, square, 1.0).rsqrt()


def turned(code: Tensor, direction: Tensor) -> Tensor:
    """The code reflected so that the first unit vector becomes ``direction``: (..., D) twice -> (..., D).

    A Householder reflection, which keeps norms to rounding whatever the direction.
    """
    along, across = direction[..., :1], direction[..., 1:]
    # 1 - along, which would be rounded away near the first unit vector
    shorter = torch.where(along > 0, across.square().sum(-1, keepdim=True) / (1 + along.abs()), 1 - along)
    normal = torch.cat([shorter, -across], -1)
    square = normal.square().sum(-1, keepdim=True)
    known = square > SMALLEST
    length = torch.where(known, square, 1.0)
    return torch.where(known, code - 2 * (code * normal).sum(-1, keepdim=True) / length * normal, code)


def _first_unit(code: Tensor) -> Tensor:
    return torch.eye(1, code.shape[-1], device=code.device, dtype=code.dtype)[0]


def wide(values: Tensor) -> Tensor:
    """The values in double precision, where the device has it."""
    return values if values.device.type == "mps" else values.double()


# Power Spherical -----------------------------------------------------------------------------------------------------


def power_spherical_log_normaliser(dimension: int, kappa: Tensor) -> Tensor:
    """log N of the density exp(kappa log(1 + mean.z) - log N), in nats. De Cao and Aziz (2020)."""
    b = (dimension - 1) / 2
    a = b + kappa
    return (a + b) * math.log(2) + torch.lgamma(a) - torch.lgamma(a + b) + b * math.log(math.pi)


def power_spherical_kl(dimension: int, kappa: Tensor) -> Tensor:
    """KL divergence of a Power Spherical distribution from the uniform one, in nats; exact."""
    b = (dimension - 1) / 2
    a = b + kappa
    mean = math.log(2) + torch.digamma(a) - torch.digamma(a + b)  # of log(1 + mean.z)
    return log_area(dimension) + kappa * mean - power_spherical_log_normaliser(dimension, kappa)


def power_spherical_draw(kappa: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A code around the first unit vector, and the log of half of 1 + its first coordinate t: (...), (..., D) of
    normal noise -> (..., D), (...).

    With X ~ Gamma((D-1)/2 + kappa) and n ~ N(0, I) of D - 1 dimensions, Y = |n|^2 / 2 is Gamma((D-1)/2), so that
    X / (X + Y) is the Beta variable (1 + t) / 2, and n / |n| is a uniform direction. Nothing is rejected.
    """
    sideways = noise[..., 1:]
    x = gamma_quantile(kappa + (noise.shape[-1] - 1) / 2, noise[..., 0])
    y = sideways.square().sum(-1) / 2
    code = torch.cat([(x - y)[..., None], (2 * x).sqrt()[..., None] * sideways], -1) / (x + y)[..., None]
    return code, -torch.log1p(y / x)


def gamma_quantile(shape: Tensor, noise: Tensor) -> Tensor:
    """A Gamma variable of unit scale from standard normal noise, by the inverse of its distribution function.

    Differentiable with respect to the ``shape`` (above 0), by implicit differentiation. Both broadcast.
    """
    found: Tensor = _GammaQuantile.apply(*torch.broadcast_tensors(shape, noise))
    return found


class _GammaQuantile(torch.autograd.Function):
    """Newton's method for the logarithm of x, on the logarithm of the tail on the side of the noise."""

    @staticmethod
    def forward(ctx: Any, shape: Tensor, noise: Tensor) -> Tensor:
        a, z = wide(shape.detach()), wide(noise.detach())
        log_tail = torch.special.log_ndtr(-z.abs())
        root = 1 - 1 / (9 * a) + z / (3 * a.sqrt())  # of x / a, to the third power (Wilson and Hilferty, 1931)
        least = (torch.special.log_ndtr(z) + torch.lgamma(a + 1)) / a  # P(a, x) < x^a / Gamma(a + 1), far left nearly =
        log_x = torch.where(root > 0.3, a.log() + 3 * root.clamp(min=0.3).log(), least)
        for _ in range(ITERATIONS):
            log_found = _tail(a, log_x.exp(), z).log()
            slope = torch.exp(a * log_x - log_x.exp() - torch.lgamma(a) - log_found)
            log_x = log_x - ((log_found - log_tail) / torch.where(z < 0, slope, -slope)).clamp(-2, 2)
        ctx.save_for_backward(a, z, log_x)
        return log_x.exp().to(noise.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        a, z, log_x = ctx.saved_tensors
        x, step = log_x.exp(), STEP * a.sqrt()
        of_shape = (_tail(a + step, x, z) - _tail(a - step, x, z)) / (2 * step)
        density = torch.exp((a - 1) * log_x - x - torch.lgamma(a))
        found = torch.where(z < 0, -of_shape, of_shape) / density
        return gradients[0] * found.to(gradients[0].dtype), None


def _tail(a: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Probability of the tail of Gamma(a) at x that is the left one where z < 0, else the right one."""
    found = torch.where(z < 0, torch.special.gammainc(a, x), torch.special.gammaincc(a, x))
    return found.clamp(min=torch.finfo(found.dtype).tiny)


# von Mises-Fisher on the sphere in three dimensions ------------------------------------------------------------------


def von_mises_fisher_kl(kappa: Tensor) -> Tensor:
    """KL divergence of a von Mises-Fisher distribution on S^2 from the uniform one, in nats; exact."""
    return kappa / torch.tanh(kappa) - 1 + kappa.log() - _log_sinh(kappa)


def von_mises_fisher_log_peak(kappa: Tensor) -> Tensor:
    """log density on S^2 at the mean direction, in nats; elsewhere it is lower by kappa (1 - mean.z)."""
    return kappa.log() - math.log(2 * math.pi) - torch.log1p(-torch.exp(-2 * kappa))


def von_mises_fisher_draw(kappa: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A code around the first unit vector, and 1 - its first coordinate: (...), (..., 3) of normal noise -> (..., 3),
    (...).

    The distribution function of the first coordinate has a closed inverse on S^2.
    """
    place, sideways = noise[..., 0], on_sphere(noise[..., 1:])
    log_left, log_right = torch.special.log_ndtr(place), torch.special.log_ndtr(-place)
    depth = -torch.logaddexp(log_left, log_right - 2 * kappa) / kappa
    radius = (depth * (2 - depth)).clamp(min=SMALLEST).sqrt()
    return torch.cat([(1 - depth)[..., None], radius[..., None] * sideways], -1), depth


def _log_sinh(kappa: Tensor) -> Tensor:
    return kappa + torch.log1p(-torch.exp(-2 * kappa)) - math.log(2)
