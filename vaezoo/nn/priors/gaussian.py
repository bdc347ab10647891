"""Gaussian priors: N(0, I), and one for each label."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.nn.priors.base import PriorModel, normal_noise
from vaezoo.nn.priors.mixtures import Mixture


class StandardNormal(NamedTuple):
    """N(0, I) of ``dimensions`` dimensions."""

    dimensions: int
    device: torch.device

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        return gaussian_log_prob(code, torch.zeros_like(code), torch.zeros_like(code)).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return normal_noise((count, self.dimensions), self.device, generator)

    @property
    def factorises(self) -> bool:
        """True: the dimensions are independent."""
        return True

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean 0 and variance 1, each (D,)."""
        return torch.zeros(self.dimensions, device=self.device), torch.ones(self.dimensions, device=self.device)

    def to(self, device: torch.device) -> "StandardNormal":
        """The same distribution on another device."""
        return self._replace(device=device)


class GaussianOfRows(NamedTuple):
    """A Gaussian with independent dimensions for each row of a batch, or a single one for all: mean and logvar (B, D).

    ``log_prob`` takes codes (..., B, D), or any if there is a single one.
    """

    mean: Tensor
    logvar: Tensor

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats, each code under the Gaussian of its row: (..., B, D) -> (..., B)."""
        return gaussian_log_prob(code, self.mean, self.logvar).sum(-1)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D): one of each row, or all of a single one."""
        noise = normal_noise((count, self.mean.shape[1]), self.mean.device, generator)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    @property
    def factorises(self) -> bool:
        """True: the dimensions of each row are independent."""
        return True

    def moments(self) -> tuple[Tensor, Tensor] | None:
        """Mean and variance of a single Gaussian, each (D,); None for several."""
        return (self.mean[0], self.logvar[0].exp()) if len(self.mean) == 1 else None

    def to(self, device: torch.device) -> "GaussianOfRows":
        """The same distributions on another device."""
        return GaussianOfRows(*(part.to(device) for part in self))


class Normal(PriorModel):
    """N(0, I)."""

    def __init__(self, *, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> StandardNormal:
        return StandardNormal(self.latent_dim, device)

    def describe(self) -> str:
        return "N(0, I)"


class Conditional(PriorModel):
    """A learned Gaussian with independent dimensions for each label, p(z|y) (Sohn et al., 2015). All start at N(0, I).

    ConfigError without ``classes``, the number of labels, which only a model with labels has.
    """

    needs_labels = True
    LEAST_LOGVAR = -10.0

    def __init__(self, *, latent_dim: int, classes: int | None = None) -> None:
        super().__init__()
        if classes is None:
            raise ConfigError(
                "model.prior=conditional needs a label for each image, which this model does not take; choose a"
                " conditional model, or model.prior=normal"
            )
        self.mean = nn.Parameter(torch.zeros(classes, latent_dim))
        self.logvar = nn.Parameter(torch.zeros(classes, latent_dim))

    def given(self, labels: Tensor) -> GaussianOfRows:
        return GaussianOfRows(labels @ self.mean, labels @ self.logvar.clamp(min=self.LEAST_LOGVAR))

    def marginal(self, frequency: Tensor) -> Mixture:
        return Mixture(self.mean, self.logvar.clamp(min=self.LEAST_LOGVAR), frequency.log())

    def describe(self) -> str:
        return f"a Gaussian for each of {len(self.mean):,} labels"
