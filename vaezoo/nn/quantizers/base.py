"""What all quantisers offer: grids of vectors to grids of codes from a finite set."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import within
from vaezoo.nn.index_layout import IndexLayout, one_grid
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior

OPTIONS = "model.quantizer_options"
START_IMAGES = 1024
"""Images whose vectors k-means starts from."""
CODE_CHANNELS = 16
"""Channels of learned codes by default."""
MOST_CODES = 2**16
"""Largest codebook: the usage of each code is counted."""


class Quantized(NamedTuple):
    """A quantised batch.

    ``code`` (B, *code_shape) has the values of codes and the gradient of the estimator; ``indices`` is long
    (B, *index_shape); ``penalties`` are unweighted and (B,), summed over channels and positions. These shapes are
    (c, h, w) and (levels, h, w) but for the quantiser of two grids.
    """

    code: Tensor
    indices: Tensor
    penalties: dict[str, Tensor]


class Quantizer(nn.Module):
    """Map from vectors to codes, in float32 or higher; ``sizes`` is the number of codes of each level.

    ``channels`` are those of a code, and ``features`` the encoder outputs that it needs at each position. ``commits``
    says whether there is a penalty ``commitment``, and ``draws`` whether there is a posterior; ``weights`` are those of
    the other penalties by name, and ``batch_statistics`` names those that are biased statistics of a batch.
    ``channel_levels`` are the values that each channel can have, if channels are quantised one by one.
    """

    sizes: tuple[int, ...]
    channels: int
    commits = False
    draws = False
    weights: Mapping[str, float] = MappingProxyType({})
    batch_statistics: frozenset[str] = frozenset()
    channel_levels: Sequence[Sequence[float]] = ()

    @property
    def features(self) -> int:
        return self.channels

    def lay_out(self, height: int, width: int) -> tuple[tuple[int, ...], IndexLayout]:
        """The shape of the code of encoder outputs on such a grid, and what their indices are; called once."""
        return (self.channels, height, width), one_grid(self.sizes, height, width)

    @property
    def wants_images(self) -> int:
        """Number of images whose vectors ``start`` needs, 0 if it needs none or was called."""
        return 0

    def forward(self, z: Tensor) -> Quantized:
        """The code of each vector, without noise: (B, features, h, w)."""
        raise NotImplementedError

    def codes(self, indices: Tensor) -> Tensor:
        """The code with these indices: long (B, levels, h, w) -> (B, c, h, w)."""
        raise NotImplementedError

    def partial_codes(self, indices: Tensor) -> Tensor | None:
        """Codes of the first level, the first two, ...: (L, B, c, h, w). None if levels do not refine each other."""
        return None

    def path(self, z: Tensor) -> Tensor:
        """Points (B, c, h, w) between which paths are drawn, of which ``project`` gives the codes of z."""
        return z

    def project(self, code: Tensor) -> Tensor:
        """The codes nearest to any points: (B, c, h, w) -> (B, c, h, w)."""
        return self(code).code

    def indices_of(self, code: Tensor) -> Tensor:
        """The indices of codes, or of those nearest to any points: (B, c, h, w) -> long (B, levels, h, w)."""
        return self(code).indices

    def posterior(self, z: Tensor) -> Posterior | None:
        """The distribution over codes (B, c h w) that encoder outputs stand for; None if they stand for one code."""
        return None

    def prior(self, positions: int) -> Prior | None:
        """The prior over codes of so many positions, if there is a posterior."""
        return None

    def start(self, vectors: Tensor) -> None:
        """Fit the codes to vectors (N, c) before training; these must be the same on all ranks."""

    def start_from(self, z: Tensor) -> None:
        """The same with encoder outputs (B, features, h, w)."""
        self.start(z.movedim(1, -1).flatten(0, -2))

    def update(self, restarts: bool = True, next_step: int = 0) -> None:
        """Take over what training batches since the last call have gathered; called before each optimiser step."""

    def weights_at(self, step: int) -> dict[str, float]:
        """Weights of the objective that change during training, and what else to log: by name, at a step."""
        return {}

    def statistics(self) -> dict[str, Tensor]:
        """Further numbers () that are logged in training, by name."""
        return {}

    def formula(self) -> str:
        """What is added to the objective besides the weighted commitment, in words: " + codebook", or nothing."""
        return "".join(
            f" + {name}" if weight == 1 else f" + {weight:g} {name}" for name, weight in self.weights.items()
        )


def precise(z: Tensor) -> Tensor:
    """Values in at least float32: half precision has too few bits to compare vectors with codes."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def codebook_channels(channels: int | None) -> int:
    """Channels of learned codes, by default ``CODE_CHANNELS``; ConfigError if they are out of range."""
    channels = CODE_CHANNELS if channels is None else channels
    within(channels, 1, 2**30, "model.code_channels")
    return channels


def refuse_other_channels(channels: int | None, wanted: int, option: str) -> None:
    """ConfigError for channels other than those that an option determines."""
    if channels not in (None, wanted):
        raise ConfigError(
            f"model.code_channels must be {wanted}, which follows from {OPTIONS}.{option}, got {channels}; set it to"
            " null"
        )


def refuse_too_few(vectors: Tensor, size: int, option: str = "size") -> None:
    """ConfigError for fewer vectors (N, c) to start from than codes."""
    if len(vectors) < size:
        raise ConfigError(
            f"{OPTIONS}.{option} must be at most the number of vectors that codes start from, which is"
            f" {len(vectors):,} for these training images, got {size:,}"
        )
