"""Mixtures of Gaussians as priors: learned ones, and those of the posteriors of learned images."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config.shapes import is_table
from vaezoo.config.validation import within
from vaezoo.metrics.divergences import LOG_2PI
from vaezoo.nn.priors.base import PriorModel, normal_noise


class Mixture(NamedTuple):
    """Mixture of C Gaussians with independent dimensions: mean and logvar (C, D), log_weight (C,) summing to 1."""

    mean: Tensor
    logvar: Tensor
    log_weight: Tensor

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...).

        The squares are expanded into matrix products, in double precision, so that memory does not grow with D.
        """
        wide = torch.float32 if code.device.type == "mps" else torch.float64  # mps has no float64
        z, mean, logvar = code.to(wide), self.mean.to(wide), self.logvar.to(wide)
        precision = torch.exp(-logvar)
        constant = (mean.square() * precision + logvar + LOG_2PI).sum(-1)
        squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + constant
        return (self.log_weight.to(wide) - 0.5 * squares).logsumexp(-1).to(code.dtype)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D): a component by its weight, then a code from it."""
        device = self.mean.device if generator is None else generator.device
        weights = self.log_weight.exp().to(device)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).to(self.mean.device)
        noise = normal_noise((count, self.mean.shape[1]), self.mean.device, generator)
        return self.mean[chosen] + torch.exp(0.5 * self.logvar[chosen]) * noise

    @property
    def factorises(self) -> bool:
        """False, but for a single component."""
        return len(self.mean) == 1

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance of a single component, each (D,); None for several."""
        return (self.mean[0], self.logvar[0].exp()) if len(self.mean) == 1 else None

    def to(self, device: torch.device) -> "Mixture":
        """The same distribution on another device."""
        return Mixture(*(part.to(device) for part in self))


class _Started(PriorModel):
    """A prior whose parameters start from training images, once in the life of a model."""

    started: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def wants_images(self) -> int:
        """One image per component, until it has started."""
        return 0 if bool(self.started) else self.components

    @torch.no_grad()
    def start_from(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        """Start one component at each image (B, C, H, W); images are used again if there are fewer."""
        self._start(images[torch.arange(self.components, device=images.device) % len(images)], posterior)
        self.started.fill_(True)

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        raise NotImplementedError


class Vamp(_Started):
    """VampPrior: the mean of the posteriors of learned pseudo-inputs (Tomczak and Welling, 2018).

    Pseudo-inputs are the sigmoid of parameters, or parameters themselves for rows of a table; they start at training
    images, and pass through the model's own encoder. Their posteriors must be diagonal Gaussians.
    """

    needs_moments = True
    MARGIN = 0.01
    """Distance of the first pseudo-pixels from 0 and 1, where the gradient of a sigmoid would vanish."""

    def __init__(self, *, image_shape: tuple[int, int, int], components: int = 500) -> None:
        within(components, 1, 2**20, "model.prior_options.components")
        super().__init__(components)
        self.is_bounded = not is_table(image_shape)
        self.pseudo_inputs = nn.Parameter(torch.empty(components, *image_shape).normal_(0, 1))

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Mixture:
        mean, logvar = posterior(self._inputs()).moments()
        return Mixture(mean, logvar, mean.new_full((len(mean),), -math.log(len(mean))))

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        started = torch.logit((1 - 2 * self.MARGIN) * images + self.MARGIN) if self.is_bounded else images
        self.pseudo_inputs.copy_(started)

    def _inputs(self) -> Tensor:
        return torch.sigmoid(self.pseudo_inputs) if self.is_bounded else self.pseudo_inputs

    def describe(self) -> str:
        return f"VampPrior with {self.components:,} pseudo-inputs"


class GaussianMixture(_Started):
    """Mixture of learned Gaussians, whose means start at the codes of training images (Dilokthanakul et al., 2016)."""

    LEAST_LOGVAR = -10.0

    def __init__(self, *, latent_dim: int, components: int = 100) -> None:
        within(components, 1, 2**20, "model.prior_options.components")
        super().__init__(components)
        self.mean = nn.Parameter(torch.empty(components, latent_dim).normal_(0, 1))
        self.logvar = nn.Parameter(torch.zeros(components, latent_dim))
        self.logit = nn.Parameter(torch.zeros(components))

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> Mixture:
        return Mixture(self.mean, self.logvar.clamp(min=self.LEAST_LOGVAR), self.logit.log_softmax(0))

    def _start(self, images: Tensor, posterior: Callable[[Tensor], Any]) -> None:
        self.mean.copy_(posterior(images).mean)

    def describe(self) -> str:
        return f"mixture of {self.components:,} Gaussians"
