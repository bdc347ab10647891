"""Convolutional hierarchies: levels of spatial codes at several resolutions, drawn from the coarsest to the finest."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.shapes import refuse_table
from vaezoo.config.validation import within
from vaezoo.nn.networks import LARGEST, Crop, ImageShape, Pad, last_bias
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.posteriors.hierarchical import Hierarchy, Levels, Pick, residual, soft_clamp

WIDTHS = (32, 48, 56)
"""Default channels of the resolutions, from the finest, of half the image's size, to the coarsest."""


def resolutions(
    image_shape: ImageShape, widths: Sequence[int] | None, code_channels: Sequence[int]
) -> list[tuple[ImageShape, int]]:
    """Grids (channels, h, w) with the channels of their codes, from the coarsest to the finest.

    Each width stands for a resolution, which halves the one before. ``code_channels`` are from the coarsest to the
    finest; with fewer resolutions, only the last are used. ConfigError for numbers out of range.
    """
    widths = tuple(WIDTHS if widths is None else widths)
    refuse_table(image_shape, "a grid of codes", "choose a model with a flat code, such as vae")
    if min(image_shape[1:]) < 8:
        raise ConfigError(
            f"images must be at least 8x8 pixels, got {image_shape[1]}x{image_shape[2]}; set data.image_size"
        )
    if not 1 <= len(widths) <= min(3, len(code_channels)):
        most = min(3, len(code_channels))
        raise ConfigError(f"model.widths must be 1 to {most} numbers, one for each resolution, got {len(widths)}")
    for width in widths:
        within(width, 2, LARGEST, "each of model.widths")
    for channels in code_channels:
        within(channels, 1, LARGEST, "each of model.level_channels")
    height, width = padded(image_shape, len(widths))
    grids = [(channels, height >> depth, width >> depth) for depth, channels in enumerate(widths, 1)]
    return list(zip(grids[::-1], code_channels[len(code_channels) - len(widths) :], strict=True))


def padded(image_shape: ImageShape, depth: int) -> tuple[int, int]:
    """Height and width, as multiples of 2^depth."""
    step = 2**depth
    return -(-image_shape[1] // step) * step, -(-image_shape[2] // step) * step


class ScaledBlock(nn.Module):
    """Residual block whose branch is scaled, by 1 / sqrt(depth), as the initial weights of Child (2021) are."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.scale = depth**-0.5
        self.body = nn.Sequential(*_activated(channels, channels), *_activated(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


def _activated(before: int, after: int) -> list[nn.Module]:
    """Group norm, SiLU and a 3x3 convolution. Groups have several channels, as there may be a single position."""
    return [nn.GroupNorm(math.gcd(8, max(1, before // 4)), before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)]


class BottomUp(nn.Module):
    """Features of images at each resolution, flat and side by side, the coarsest first: (B, C, H, W) -> (B, F)."""

    def __init__(self, image_shape: ImageShape, grids: Sequence[ImageShape], blocks: int) -> None:
        super().__init__()
        self.pad = Pad(image_shape, padded(image_shape, len(grids)))
        stages: list[nn.Module] = []
        before, depth = image_shape[0], blocks * len(grids)
        for channels, _, _ in grids[::-1]:
            narrowing = nn.Conv2d(before, channels, 4, stride=2, padding=1)
            stages.append(nn.Sequential(narrowing, *(ScaledBlock(channels, depth) for _ in range(blocks))))
            before = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        found: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            found.insert(0, x.flatten(1))
        return torch.cat(found, 1)


class ToPixels(nn.Module):
    """The finest state of a hierarchy to outputs for each pixel: (B, C, h, w) -> (B, C, H, W)."""

    def __init__(self, image_shape: ImageShape, grids: Sequence[ImageShape]) -> None:
        super().__init__()
        channels, height, width = grids[-1]
        self.layers = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels, 3, padding=1),
            *_activated(channels, image_shape[0]),
            Crop(image_shape, (2 * height, 2 * width)),
        )
        bias = last_bias(self.layers)
        assert bias is not None
        nn.init.zeros_(bias)  # which tells that it is not trained

    def forward(self, state: Tensor) -> Tensor:
        pixels: Tensor = self.layers(state)
        return pixels


class LevelBlock(nn.Module):
    """One level of a hierarchy: its prior from the state, its posterior, and how its code changes the state."""

    def __init__(self, channels: int, code_channels: int, depth: int, *, is_top: bool) -> None:
        super().__init__()
        self.is_top = is_top
        self.prior = None if is_top else nn.Sequential(*_activated(channels, 2 * code_channels))
        self.posterior = nn.Sequential(*_activated(2 * channels, channels), *_activated(channels, 2 * code_channels))
        if not is_top:  # an untrained posterior is the prior
            for parameter in self.posterior[-1].parameters():
                nn.init.zeros_(parameter)
        self.enter = nn.Conv2d(code_channels, channels, 1)
        self.block = ScaledBlock(channels, depth)

    def prior_of(self, state: Tensor, like: Tensor) -> DiagonalGaussian:
        """The prior given the state (N, C, h, w); its parameters have the shape (K, B, d) of ``like``."""
        if self.prior is None:
            return DiagonalGaussian(torch.zeros_like(like), torch.zeros_like(like))
        mean, logvar = _halves(self.prior(state), like)
        return DiagonalGaussian(mean, soft_clamp(logvar))

    def posterior_of(self, state: Tensor, features: Tensor, p: DiagonalGaussian) -> DiagonalGaussian:
        """The posterior relative to the prior, given the state and the image's features, both (N, C, h, w)."""
        return residual(p, *_halves(self.posterior(torch.cat([state, features.to(state.dtype)], 1)), p.mean))

    def forward(self, state: Tensor, code: Tensor) -> Tensor:
        changed: Tensor = self.block(state + self.enter(code))
        return changed


def _halves(parameters: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Convolution outputs (N, 2 c, h, w) as two tensors of the shape and type of ``like``, (K, B, d)."""
    first, second = parameters.to(like.dtype).chunk(2, 1)
    return first.reshape(like.shape), second.reshape(like.shape)


class SpatialLevels(Hierarchy):
    """A hierarchy of spatial codes with ``blocks`` levels at each resolution, as in NVAE (Vahdat and Kautz, 2020).

    A deterministic state passes downwards, so that each level depends on all above. Levels' codes are flat, with
    channels first.
    """

    def __init__(self, grids: Sequence[tuple[ImageShape, int]], blocks: int) -> None:
        within(blocks, 1, LARGEST, "model.blocks")
        shapes = [(channels, *grid[1:]) for grid, channels in grids for _ in range(blocks)]
        super().__init__([math.prod(shape) for shape in shapes])
        self.shapes, self.grids, self.blocks = shapes, [grid for grid, _ in grids], blocks
        self.start = nn.Parameter(torch.zeros(1, *self.grids[0]))
        self.levels = nn.ModuleList(
            LevelBlock(self._grid(level)[0], shape[0], len(shapes), is_top=level == 0)
            for level, shape in enumerate(shapes)
        )
        self.widening = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(before[0], after[0], 3, padding=1))
            for before, after in zip(self.grids, self.grids[1:], strict=False)
        )

    def _grid(self, level: int) -> ImageShape:
        return self.grids[level // self.blocks]

    def features(self, latent_dim: int) -> int:
        return sum(math.prod(grid) for grid in self.grids)

    def walk(self, pick: Pick, like: Tensor, features: Tensor | None = None) -> Levels:
        count, images = like.shape[:2]
        state = self._entry(count * images)
        upward: list[Tensor] = []
        if features is not None:
            parts = features.split([math.prod(grid) for grid in self.grids], 1)
            upward = [
                part.expand(count, -1, -1).reshape(-1, *grid) for part, grid in zip(parts, self.grids, strict=True)
            ]
        codes: list[Tensor] = []
        posteriors: list[DiagonalGaussian] = []
        priors: list[DiagonalGaussian] = []
        for level, block in enumerate(self.levels):
            state = self._widened(level, state)
            assert isinstance(block, LevelBlock)
            priors.append(p := block.prior_of(state, like[..., : self.sizes[level]]))
            if features is not None:
                posteriors.append(block.posterior_of(state, upward[level // self.blocks], p))
            codes.append(pick(level, posteriors[-1] if posteriors else p))
            state = block(state, self._spatial(level, codes[-1], state))
        return Levels(codes, posteriors, priors, [True] * len(codes))

    def state(self, code: Tensor) -> Tensor:
        """The state below all levels of a code: (B, D) -> (B, C, h, w)."""
        state = self._entry(code.shape[0])
        for level, (block, part) in enumerate(zip(self.levels, self.split(code), strict=True)):
            state = self._widened(level, state)
            state = block(state, self._spatial(level, part, state))
        return state

    def _entry(self, count: int) -> Tensor:
        return self.start.repeat(count, 1, 1, 1)

    def _widened(self, level: int, state: Tensor) -> Tensor:
        stage = level // self.blocks
        return self.widening[stage - 1](state) if level % self.blocks == 0 and stage else state

    def _spatial(self, level: int, code: Tensor, state: Tensor) -> Tensor:
        return code.to(state.dtype).reshape(-1, *self.shapes[level])


def make_top_down(
    image_shape: ImageShape, widths: Sequence[int] | None, code_channels: Sequence[int], blocks: int
) -> tuple[SpatialLevels, BottomUp, ToPixels]:
    """Levels, the encoder that their posteriors need, and the decoder of the state below them.

    There are ``blocks`` levels at each resolution. ConfigError for numbers out of range; see ``resolutions``.
    """
    found = resolutions(image_shape, widths, code_channels)
    grids = [grid for grid, _ in found]
    return SpatialLevels(found, blocks), BottomUp(image_shape, grids, blocks), ToPixels(image_shape, grids)
