"""What all perceptual distances offer, and distances in the features of a pretrained network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.nn.networks import ImageShape
from vaezoo.nn.penalties.base import Encoded, Penalty, pixels_of

OPTIONS = "model.perceptual_options"

EPSILON = 1e-8
"""Below the root of a length, so that features of 0 have a direction of 0 and a gradient."""


class PerceptualDistance(Penalty):
    """A distance of reconstructions from images, in a unit of its own, 0 for equal images; no part of the likelihood.

    Networks are not registered: they have no place in checkpoints, are in evaluation mode always, and are never
    trained. They are read when they are first needed, so that a trained model can be used on machines that do not have
    them. Computed in float32 whatever the precision. Only reconstructions have a gradient.

    Args:
        weight: nats per unit of distance and image; None for ``weight_per_pixel`` times the number of pixels and
            channels, so that with 1 it is what the weight 1 is beside an error averaged over these.

    Raises:
        ConfigError: a weight is negative, or both are given.
    """

    key = OPTIONS
    needs_pixels = True
    name: str
    calibrated_side = 0
    """Pixels of the images that it was fitted to judgements of, 0 if it was not."""

    def __init__(
        self, image_shape: ImageShape, *, weight: float | None = None, weight_per_pixel: float | None = None
    ) -> None:
        if weight is not None and weight_per_pixel is not None:
            raise ConfigError(f"{OPTIONS} has weight={weight:g} and weight_per_pixel={weight_per_pixel:g}; set one")
        each = 1.0 if weight_per_pixel is None else weight_per_pixel
        at_least(each, 0, f"{OPTIONS}.weight_per_pixel")
        super().__init__(each * math.prod(image_shape) if weight is None else weight)
        self.label = f"perceptual_{self.name}"

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        return self.between(seen.x, pixels_of(seen)), None

    def between(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The distance of each reconstruction from its image, pixels in [0, 1]: (B, C, H, W) twice -> (B,)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.distance(x.detach().float(), reconstruction.float())

    def distance(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The same for images in float32."""
        raise NotImplementedError

    @property
    def version(self) -> str:
        """The start of the SHA-256 of the network's weights; empty without a network."""
        return ""

    def explain(self) -> list[str]:
        return [f"{self.name}: {self.describe()}"]

    def describe(self) -> str:
        """The distance as text, with the version of its weights."""
        raise NotImplementedError

    def formula(self) -> str:
        return f"{self.weight:g} {self.name}"


class FeatureDistance(PerceptualDistance):
    """Distance between features of a frozen network at several depths (Zhang et al., 2018).

    A subclass names the weights, and makes the network that gives features (B, C, h, w) of each depth.
    """

    channels: tuple[int, ...] | None = (1, 3)
    """Channels that images may have, of which a single one is repeated for a network of colours; None for any."""
    least_side = 1
    """Pixels of the shorter side that the network needs."""

    def __init__(self, image_shape: ImageShape, **options: Any) -> None:
        super().__init__(image_shape, **options)
        channels, *sides = image_shape
        self.image_shape = image_shape
        if self.channels is not None and channels not in self.channels:
            raise ConfigError(f"{self.name} is for images of 1 or 3 channels, got {channels}; use ms_ssim")
        if min(sides) < self.least_side:
            raise ConfigError(
                f"{self.name} needs images of at least {self.least_side} pixels a side, got {min(sides)}; use lite0,"
                " which enlarges them"
            )
        self._network: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not registered
        self._weights: list[Tensor] | None = None
        self._device = torch.device("cpu")

    def make_network(self) -> tuple[nn.Module, list[Tensor] | None]:
        """The network with its weights on the CPU, and weights (C,) of the channels of each depth, None for 1."""
        raise NotImplementedError

    def read_weights(self) -> None:
        if not self._network:
            self._make()

    def _make(self) -> None:
        network, self._weights = self.make_network()
        self._network = (network.eval().requires_grad_(False),)

    @torch.compiler.disable
    def _move(self, device: torch.device) -> None:
        if not self._network:
            self._make()
        self._network[0].to(device)
        self._weights = None if self._weights is None else [weights.to(device) for weights in self._weights]
        self._device = device

    def distance(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        if not self._network or self._device != x.device:
            self._move(x.device)
        (network,) = self._network
        with torch.no_grad():
            wanted = network(self._coloured(x))
        found = network(self._coloured(reconstruction))
        return feature_distance(wanted, found, self._weights)

    def _coloured(self, pixels: Tensor) -> Tensor:
        return pixels if self.channels is None else pixels.expand(-1, 3, -1, -1)


def feature_distance(
    wanted: Sequence[Tensor], found: Sequence[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """Squared differences of unit feature vectors, (B, C, h, w) of each depth twice -> (B,).

    Weighted and summed over channels, mean over positions, sum over depths (Zhang et al., 2018, equation 1).
    ``weights`` (C,) are those of each depth's channels, None for 1.
    """
    total = wanted[0].new_zeros(len(wanted[0]))
    for depth, (one, other) in enumerate(zip(wanted, found, strict=True)):
        squares = (_unit(one) - _unit(other)).square()
        if weights is not None:
            squares = squares * weights[depth][:, None, None]
        total = total + squares.sum(1).mean((1, 2))
    return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + EPSILON).sqrt()
