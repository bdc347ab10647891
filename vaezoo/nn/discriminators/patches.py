"""The discriminator of patches (PatchGAN)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.nn.critics import SLOPE, judge
from vaezoo.nn.discriminators.base import OPTIONS, Discriminator

INITIAL_SPREAD = 0.02
"""Standard deviation of initial weights, as in pix2pix."""

FEWEST_POSITIONS = 3
"""Positions of the shorter side that the last halving must leave for the two convolutions after it."""


class Patches(Discriminator):
    """Says of each patch of an image whether it is real (Isola et al., 2017).

    A convolution of ``width`` channels and ``layers`` - 1 with twice as many each, up to eight times, halve the image;
    two more follow without. Unlike pix2pix, it has group norm of one group: batch norm would mix images, and update its
    statistics several times a step. ``layers`` None is 3 from 64 pixels on, 2 from 12, else 1.
    """

    def __init__(
        self, image_shape: Sequence[int], *, width: int = 64, layers: int | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, **options)
        side = min(image_shape[1:])
        layers = (3 if side >= 64 else 2 if side >= 12 else 1) if layers is None else layers
        at_least(width, 1, f"{OPTIONS}.width")
        at_least(layers, 1, f"{OPTIONS}.layers")
        if side >> layers < FEWEST_POSITIONS:
            raise ConfigError(
                f"{OPTIONS}.layers={layers} needs images of at least {FEWEST_POSITIONS << layers} pixels a side, got"
                f" {image_shape[1]}x{image_shape[2]}; set fewer layers, or a larger data.image_size"
            )
        self.critic = patch_critic(image_shape[0], width, layers)

    def features(self, x: Tensor) -> Tensor:
        return judge(self.critic[:-1], x, frozen=True)  # type: ignore[index]


def patch_critic(channels: int, width: int, layers: int) -> nn.Sequential:
    """Images (B, C, H, W) in [0, 1] to one logit for each patch: (B, 1, h, w)."""
    sizes = [min(width << layer, 8 * width) for layer in range(layers + 1)]
    body: list[nn.Module] = [Centred(), nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
    for layer, (before, after) in enumerate(pairwise(sizes), 1):
        stride = 2 if layer < layers else 1
        body += [nn.Conv2d(before, after, 4, stride=stride, padding=1, bias=False), nn.GroupNorm(1, after)]
        body += [nn.LeakyReLU(SLOPE)]
    critic = nn.Sequential(*body, nn.Conv2d(sizes[-1], 1, 4, padding=1))
    critic.apply(_initialise)
    return critic


class Centred(nn.Module):
    """Pixels in [0, 1] to [-1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=INITIAL_SPREAD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
