"""Invertible maps of codes with the logarithm of their Jacobian determinants. They know no images.

A step maps codes (..., D) to codes and log |det| (...). Its networks compute in the precision of the codes, also under
autocast, because densities need it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.errors import ConfigError

SMALLEST = 1e-12
"""Added to squared norms, whose root has no gradient at 0."""

Moved = tuple[Tensor, Tensor]
"""Codes (..., D), and log |det| of the map that gave them (...)."""


def planar_step(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> Moved:
    """z + u' tanh(w.z + b) (Rezende and Mohamed, 2015): (..., D) three times and (...) -> codes and log |det|.

    u' = u + (m(w.u) - w.u) w / |w|^2 with m(t) = softplus(t) - 1, so that w.u' > -1 and the map is invertible. It is
    the identity at u = log(e - 1) w / |w|^2.
    """
    along = (w * u).sum(-1)
    limited = u + ((F.softplus(along) - 1 - along) / (w.square().sum(-1) + SMALLEST))[..., None] * w
    tanh = torch.tanh((w * z).sum(-1) + b)
    # 1 + (1 - tanh^2) m(w.u) as a sum of what is not negative.
    determinant = tanh.square() + (1 - tanh.square()) * F.softplus(along)
    return z + limited * tanh[..., None], determinant.clamp(min=SMALLEST).log()


def radial_step(z: Tensor, z0: Tensor, alpha_raw: Tensor, beta_raw: Tensor) -> Moved:
    """z + beta h (z - z0), h = 1 / (alpha + r), r = |z - z0| (Rezende and Mohamed, 2015): codes and log |det|.

    ``z`` and ``z0`` are (..., D), and alpha = softplus(alpha_raw) and beta = softplus(beta_raw) - alpha (...), so that
    beta > -alpha and the map is invertible. It is the identity where the raw values are equal.
    """
    alpha, moved = F.softplus(alpha_raw), F.softplus(beta_raw)
    distance = ((z - z0).square().sum(-1) + SMALLEST**2).sqrt()
    # 1 + beta h = (r + softplus(beta_raw)) / (alpha + r), and its sum with -beta r h^2, have no differences.
    height = 1 / (alpha + distance)
    stretch = (distance + moved) * height
    radial = height.square() * (distance.square() + 2 * alpha * distance + alpha * moved)
    log_det = (z.shape[-1] - 1) * stretch.log() + radial.log()
    return z + ((moved - alpha) * height)[..., None] * (z - z0), log_det


def gated_step(z: Tensor, shift: Tensor, gate: Tensor) -> Moved:
    """sigmoid(gate) z + (1 - sigmoid(gate)) shift (Kingma et al., 2016): (..., D) each -> codes and log |det|.

    The determinant is that of outputs which depend on the inputs before them alone.
    """
    open_ = torch.sigmoid(gate)
    return open_ * z + torch.sigmoid(-gate) * shift, F.logsigmoid(gate).sum(-1)


class Planar(NamedTuple):
    """``planar_step`` with parameters for each image of a batch: u and w (B, D), b (B,)."""

    u: Tensor
    w: Tensor
    b: Tensor

    def push(self, z: Tensor) -> Moved:
        """Codes (..., B, D) and log |det| (..., B)."""
        return planar_step(z, self.u, self.w, self.b)


class Radial(NamedTuple):
    """``radial_step`` with parameters for each image of a batch: z0 (B, D), alpha_raw and beta_raw (B,)."""

    z0: Tensor
    alpha_raw: Tensor
    beta_raw: Tensor

    def push(self, z: Tensor) -> Moved:
        """Codes (..., B, D) and log |det| (..., B)."""
        return radial_step(z, self.z0, self.alpha_raw, self.beta_raw)


class Gated(NamedTuple):
    """``gated_step`` by a network that all images share and a context for each, (B, C)."""

    network: "Made"
    context: Tensor

    def push(self, z: Tensor) -> Moved:
        """Codes (..., B, D) and log |det| (..., B)."""
        return gated_step(z, *self.network(z, self.context))


# networks ------------------------------------------------------------------------------------------------------------


class Linear(nn.Linear):
    """A linear layer in the precision of its input, with some weights fixed at 0 by ``mask`` (outputs, inputs)."""

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, mask: Tensor | None = None, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.mask is None else self.weight * self.mask
        with _without_autocast(x):
            return F.linear(x, weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def start_at(self, bias: Tensor | float = 0.0) -> None:
        """Set all weights to 0, so that the output is ``bias`` whatever the input."""
        nn.init.zeros_(self.weight)
        with torch.no_grad():
            self.bias.copy_(torch.as_tensor(bias).expand_as(self.bias))


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


class Made(nn.Module):
    """Two outputs for each dimension, which depend on the dimensions before it and on a context (Germain et al., 2015).

    (..., D) and (B, C) -> two times (..., D). Masks follow degrees: a hidden unit of degree k sees the first k + 1
    dimensions, and dimension d is seen by hidden units of degree below d, of which there is each from 0 to D - 2 if
    there are at least D - 1 units. ``reverse`` counts dimensions from the last. Before training, the outputs are 0 and
    ``start``.
    """

    def __init__(
        self, dimensions: int, hidden: int, context: int = 0, *, reverse: bool = False, start: float = 0.0
    ) -> None:
        super().__init__()
        order = torch.arange(dimensions).flip(0) if reverse else torch.arange(dimensions)
        degrees = torch.arange(hidden) % max(1, dimensions - 1)
        self.incoming = Linear(dimensions, hidden, order <= degrees[:, None])
        self.outgoing = Linear(hidden, 2 * dimensions, (degrees < order[:, None]).repeat(2, 1))
        self.outgoing.start_at(torch.tensor([0.0, start]).repeat_interleave(dimensions))
        self.of_context = Linear(context, hidden + 2 * dimensions, bias=False) if context else None
        if self.of_context is not None:
            nn.init.zeros_(self.of_context.weight[hidden:])

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden, direct = self.incoming(z), 0
        if self.of_context is not None and context is not None:
            of_hidden, direct = self.of_context(context.to(z.dtype)).tensor_split([hidden.shape[-1]], dim=-1)
            hidden = hidden + of_hidden
        first, second = (self.outgoing(F.elu(hidden)) + direct).chunk(2, dim=-1)
        return first, second


def check_hidden(hidden: int, dimensions: int, key: str) -> None:
    """ConfigError if ``Made`` with so many hidden units would not let each dimension see all before it."""
    least = max(1, dimensions - 1)
    if hidden < least:
        raise ConfigError(f"{key} must be at least {least}, for codes of {dimensions} dimensions, got {hidden}")


def _bounded(raw: Tensor, size: Tensor) -> Tensor:
    """A log scale between -``size`` and ``size``."""
    return size.to(raw.dtype) * torch.tanh(raw)


class Coupling(nn.Module):
    """Half of the dimensions scaled and shifted, given the others (RealNVP; Dinh et al., 2017); first the identity.

    ``moves_first`` says which half moves. The log scale is a tanh times a learned size, which starts at 1.
    """

    def __init__(self, dimensions: int, hidden: int, *, moves_first: bool) -> None:
        super().__init__()
        self.first, self.moves_first = dimensions // 2, moves_first
        moved = self.first if moves_first else dimensions - self.first
        self.size = nn.Parameter(torch.ones(moved))
        last = Linear(hidden, 2 * moved)
        last.start_at()
        self.network: nn.Module = nn.Sequential(
            Linear(dimensions - moved, hidden), nn.SiLU(), Linear(hidden, hidden), nn.SiLU(), last
        )

    def push(self, z: Tensor) -> Moved:
        """Codes (..., D) and log |det| (...) of the map."""
        moved, kept, log_scale, shift = self._parts(z)
        return self._joined(moved * torch.exp(log_scale) + shift, kept), log_scale.sum(-1)

    def pull(self, z: Tensor) -> Moved:
        """Codes (..., D) and log |det| (...) of the inverse."""
        moved, kept, log_scale, shift = self._parts(z)
        return self._joined((moved - shift) * torch.exp(-log_scale), kept), -log_scale.sum(-1)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, second = z.tensor_split([self.first], dim=-1)
        moved, kept = (first, second) if self.moves_first else (second, first)
        raw, shift = self.network(kept).chunk(2, dim=-1)
        return moved, kept, _bounded(raw, self.size), shift

    def _joined(self, moved: Tensor, kept: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.moves_first else [kept, moved], dim=-1)


class Autoregressive(nn.Module):
    """Each dimension scaled and shifted, given those before it (Papamakarios et al., 2017); first the identity.

    ``pull`` takes one pass and ``push`` as many as there are dimensions.
    """

    def __init__(self, dimensions: int, hidden: int, *, reverse: bool) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.ones(dimensions))
        self.network = Made(dimensions, hidden, reverse=reverse)

    def push(self, z: Tensor) -> Moved:
        """Codes (..., D) and log |det| (...) of the map."""
        found, log_scale = z, torch.zeros_like(z)
        for _ in range(z.shape[-1]):  # each pass makes one more dimension final
            shift, log_scale = self._affine(found)
            found = z * torch.exp(log_scale) + shift
        return found, log_scale.sum(-1)

    def pull(self, z: Tensor) -> Moved:
        """Codes (..., D) and log |det| (...) of the inverse."""
        shift, log_scale = self._affine(z)
        return (z - shift) * torch.exp(-log_scale), -log_scale.sum(-1)

    def _affine(self, z: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.network(z)
        return shift, _bounded(raw, self.size)


def pushed(steps: Sequence[Any], z: Tensor) -> Moved:
    """Codes after all steps, and the sum of their log |det|: (..., D) -> (..., D) and (...)."""
    log_det = z.new_zeros(())
    for step in steps:
        z, of_step = step.push(z)
        log_det = log_det + of_step
    return z, log_det.expand(z.shape[:-1])


def pulled(steps: Sequence[Any], z: Tensor) -> Moved:
    """Codes before all steps, and the sum of log |det| of the inverses: (..., D) -> (..., D) and (...)."""
    log_det = z.new_zeros(())
    for step in reversed(steps):
        z, of_step = step.pull(z)
        log_det = log_det + of_step
    return z, log_det.expand(z.shape[:-1])
