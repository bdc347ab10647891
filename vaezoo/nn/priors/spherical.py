"""The prior of codes on a sphere."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaezoo.config.validation import at_least
from vaezoo.nn.priors.base import PriorModel, normal_noise
from vaezoo.nn.spheres import log_area, on_sphere


class UniformOnSphere(NamedTuple):
    """The uniform distribution on the unit sphere in ``dimensions`` dimensions, a density on its surface."""

    dimensions: int
    device: torch.device

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats of codes on the sphere: (..., D) -> (...)."""
        return torch.full_like(code[..., 0], -log_area(self.dimensions))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return on_sphere(normal_noise((count, self.dimensions), self.device, generator))

    @property
    def factorises(self) -> bool:
        """False: the squares of the coordinates add up to 1."""
        return False

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def to(self, device: torch.device) -> "UniformOnSphere":
        """The same distribution on another device."""
        return self._replace(device=device)


class UniformSphere(PriorModel):
    """The uniform distribution on the unit sphere (Davidson et al., 2018); ConfigError for a single dimension."""

    is_spherical = True

    def __init__(self, *, latent_dim: int) -> None:
        super().__init__()
        at_least(latent_dim, 2, "model.latent_dim of codes on a sphere")
        self.latent_dim = latent_dim

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> UniformOnSphere:
        return UniformOnSphere(self.latent_dim, device)

    def describe(self) -> str:
        return f"uniform on the unit sphere in {self.latent_dim} dimensions"
