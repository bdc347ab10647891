"""The quantiser that draws codes of a learned codebook from a distribution that the encoder gives."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.validation import above, at_least
from vaezoo.nn.posteriors.base import Draw
from vaezoo.nn.posteriors.categorical import CategoricalDraw, Categories, Relaxation
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.quantizers import codebooks
from vaezoo.nn.quantizers.base import OPTIONS, Quantized, Quantizer, codebook_channels, precise
from vaezoo.nn.quantizers.vector import check_size


def as_grid(codes: Tensor) -> Tensor:
    """Codes of N positions as one flat code, channels first: (..., N, c) -> (..., c N)."""
    return codes.transpose(-1, -2).flatten(-2)


def positions_of(code: Tensor, channels: int) -> Tensor:
    """The opposite: (..., c N) -> (..., N, c)."""
    return code.unflatten(-1, (channels, -1)).transpose(-1, -2)


class CodebookPosterior:
    """q(z|x) over the codes of a codebook (K, c), independent at each of N positions; z is (B, c N).

    Draws are relaxed if the ``categories`` are, as in training: mixtures of codes.
    """

    def __init__(self, categories: Categories, codebook: Tensor) -> None:
        self.categories, self.codebook = categories, codebook

    @property
    def mean(self) -> Tensor:
        """The most probable codes, which are not E[z|x]: (B, c N)."""
        return as_grid(F.embedding(self.categories.log_probs.argmax(-1), self.codebook))

    def draw(self, samples: int = 1, generator: torch.Generator | None = None) -> CategoricalDraw:
        """Codes (K, B, c N) and their log probability (K, B)."""
        drawn = self.categories.draw(samples, generator)
        one_hot = drawn.code.unflatten(-1, self.categories.log_probs.shape[1:])
        with torch.autocast(one_hot.device.type, enabled=False):
            code = as_grid(one_hot @ self.codebook)
        return CategoricalDraw(code[:, :, None], lambda: drawn.log_prob, drawn.log_code)

    def kl(self, prior: Prior, draw: Draw) -> Tensor:
        """Exact KL divergence of each position's categories from the uniform prior, log K - H, in nats: (B, N)."""
        return self.categories.kl(prior, draw)

    def kl_by(self, prior: Prior) -> str:
        """``group``: by position."""
        return "group"

    def log_prob(self, code: Tensor) -> Tensor:
        """Log probability of codes (K, B, c N), in nats: (K, B)."""
        vectors = positions_of(code, self.codebook.shape[1])
        indices = codebooks.nearest(vectors.flatten(0, -2), self.codebook).view(vectors.shape[:-1])
        log_probs = self.categories.log_probs.expand(len(code), -1, -1, -1)
        return log_probs.gather(-1, indices[..., None]).sum((-2, -1))

    def detached(self) -> "CodebookPosterior":
        """The same distribution without gradients for its parameters."""
        return CodebookPosterior(self.categories.detached(), self.codebook.detach())

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None


class UniformCodes(NamedTuple):
    """All codes of a ``codebook`` (K, c) with equal probabilities, independent at each of N positions."""

    codebook: Tensor
    positions: int

    def log_prob(self, code: Tensor) -> Tensor:
        """Log probability of codes, in nats: (..., c N) -> (...)."""
        return code.new_full(code.shape[:-1], -self.positions * math.log(len(self.codebook)))

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws, (count, c N)."""
        where = self.codebook.device if generator is None else generator.device
        indices = torch.randint(len(self.codebook), (count, self.positions), generator=generator, device=where)
        return as_grid(F.embedding(indices.to(self.codebook.device), self.codebook))

    @property
    def factorises(self) -> bool:
        """False: the channels of a code depend on each other."""
        return False

    def moments(self) -> None:
        """None: it is not Gaussian."""
        return None

    def to(self, device: torch.device) -> "UniformCodes":
        """The same distribution on another device."""
        return self._replace(codebook=self.codebook.to(device))


class GumbelQuantizer(Quantizer):
    """Codes drawn by the Gumbel-softmax (Jang et al., 2017), as in the dVAE of Ramesh et al. (2021).

    The encoder gives the log probabilities of ``size`` codes at each position, with the exact KL from a uniform prior.
    Training decodes relaxed draws, for which recon - with the KL of categories - is no bound; validation, test and
    every tool draw codes, and ``forward`` takes the most probable one.

    Args:
        first_temperature: of relaxed draws; falls exponentially to ``least_temperature`` in ``temperature_steps``
            optimiser steps.
        straight_through: whether the decoder sees codes, with the gradient of relaxed ones.
        warmup_steps: optimiser steps in which the weight of the KL rises from 0 to 1; with all of it from the start,
            codes would not be used.
    """

    draws = True
    temperature: Tensor

    def __init__(
        self,
        channels: int | None = None,
        *,
        size: int = 512,
        first_temperature: float = 1.0,
        least_temperature: float = 0.0625,
        temperature_steps: int = 5000,
        straight_through: bool = False,
        warmup_steps: int = 2000,
    ) -> None:
        super().__init__()
        self.channels = channels = codebook_channels(channels)
        check_size(size, channels)
        above(least_temperature, 0, f"{OPTIONS}.least_temperature")
        at_least(first_temperature, least_temperature, f"{OPTIONS}.first_temperature")
        at_least(temperature_steps, 0, f"{OPTIONS}.temperature_steps")
        at_least(warmup_steps, 0, f"{OPTIONS}.warmup_steps")
        self.sizes, self.straight_through = (size,), straight_through
        self.first, self.least = first_temperature, least_temperature
        self.temperature_steps, self.warmup_steps = temperature_steps, warmup_steps
        self.codebook = nn.Parameter(torch.randn(size, channels))
        self.register_buffer("temperature", torch.tensor(self.temperature_at(0)))

    @property
    def features(self) -> int:
        return self.sizes[0]

    def forward(self, z: Tensor) -> Quantized:
        indices = precise(z).argmax(1, keepdim=True)
        return Quantized(self.codes(indices), indices, {})

    def codes(self, indices: Tensor) -> Tensor:
        return F.embedding(indices[:, 0], self.codebook).movedim(-1, 1)

    def path(self, z: Tensor) -> Tensor:
        """The codes themselves: encoder outputs are no points among them."""
        return self(z).code

    def project(self, code: Tensor) -> Tensor:
        return self.codes(self.indices_of(code))

    def indices_of(self, code: Tensor) -> Tensor:
        vectors = precise(code).movedim(1, -1)
        indices = codebooks.nearest(vectors.flatten(0, -2), self.codebook)
        return indices.view(code.shape[0], 1, *code.shape[2:])

    def posterior(self, z: Tensor) -> CodebookPosterior:
        relaxation = Relaxation(self.temperature, self.straight_through) if self.training else None
        return CodebookPosterior(Categories(precise(z).flatten(2).mT, relaxation), self.codebook)

    def prior(self, positions: int) -> UniformCodes:
        return UniformCodes(self.codebook, positions)

    def temperature_at(self, step: int) -> float:
        """The temperature of relaxed draws in the step that follows ``step`` optimiser steps."""
        passed = min(1.0, step / self.temperature_steps) if self.temperature_steps else 1.0
        return float(self.first * (self.least / self.first) ** passed)

    def weights_at(self, step: int) -> dict[str, float]:
        kl_weight = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return {"kl_weight": kl_weight, "temperature": self.temperature_at(step)}

    def update(self, restarts: bool = True, next_step: int = 0) -> None:
        self.temperature.fill_(self.temperature_at(next_step))

    def formula(self) -> str:
        rises = f" (its weight rises to 1 in {self.warmup_steps:,} steps)" if self.warmup_steps else ""
        return f" + kl{rises}"
