"""Normalising flows as priors."""

import copy
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import within
from vaezoo.nn.flows import Autoregressive, Coupling, check_hidden, pulled, pushed
from vaezoo.nn.priors.base import PriorModel
from vaezoo.nn.priors.gaussian import StandardNormal


class FlowedNormal(NamedTuple):
    """The density of f(u) with u ~ N(0, I), where f is the invertible ``steps`` one after another."""

    base: StandardNormal
    steps: nn.ModuleList

    def log_prob(self, code: Tensor) -> Tensor:
        """Log density in nats: (..., D) -> (...)."""
        before, log_det = pulled(self.steps, code)  # type: ignore[arg-type]
        return self.base.log_prob(before) + log_det

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, D)."""
        return pushed(self.steps, self.base.sample(count, generator))[0]  # type: ignore[arg-type]

    @property
    def factorises(self) -> bool:
        """False: the dimensions depend on each other."""
        return False

    def moments(self) -> None:
        """None: it is no Gaussian."""
        return None

    def to(self, device: torch.device) -> "FlowedNormal":
        """The same distribution on another device."""
        return FlowedNormal(self.base.to(device), copy.deepcopy(self.steps).to(device))


class Flow(PriorModel):
    """A normalising flow of N(0, I), which it is exactly before training (Chen et al., 2017).

    ``coupling`` (RealNVP; Dinh et al., 2017) is fast in both directions; ``maf`` (Papamakarios et al., 2017) samples in
    as many passes as there are dimensions. ConfigError for numbers below 1, or a coupling of one dimension.
    """

    def __init__(
        self, *, latent_dim: int, steps: int = 6, hidden: int = 64, kind: Literal["coupling", "maf"] = "coupling"
    ) -> None:
        super().__init__()
        within(steps, 1, 2**10, "model.prior_options.steps")
        within(hidden, 1, 2**20, "model.prior_options.hidden")
        self.latent_dim, self.kind = latent_dim, kind
        if kind == "coupling":
            if latent_dim < 2:
                raise ConfigError(
                    "model.prior_options.kind=coupling needs a code of at least 2 dimensions, got 1; set it to maf"
                )
            made: Any = [Coupling(latent_dim, hidden, moves_first=step % 2 == 1) for step in range(steps)]
        else:
            check_hidden(hidden, latent_dim, "model.prior_options.hidden")
            made = [Autoregressive(latent_dim, hidden, reverse=step % 2 == 1) for step in range(steps)]
        self.steps = nn.ModuleList(made)

    def forward(self, posterior: Callable[[Tensor], Any], device: torch.device) -> FlowedNormal:
        return FlowedNormal(StandardNormal(self.latent_dim, device), self.steps)

    def describe(self) -> str:
        return f"flow of N(0, I) in {len(self.steps)} {self.kind} steps"
