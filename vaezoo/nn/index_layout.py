"""Where the indices of a discrete code stand: grids of positions, each with an index from one or more codebooks."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class IndexGrid(NamedTuple):
    """A grid of positions, each with one index of every level; ``sizes`` are the entries of the levels' codebooks."""

    sizes: tuple[int, ...]
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.sizes), self.height, self.width


class Codebook(NamedTuple):
    """What one level of a grid has: ``size`` entries, as many indices as ``positions``, and their places in a sequence.

    A sequence has all grids in order, each in raster order with the levels of a position side by side.
    """

    name: str
    size: int
    positions: int
    places: slice


class IndexLayout:
    """The grids of a code's indices, in the order in which a prior is fitted to them: coarse ones first.

    Indices of an image are one tensor of the shape ``shape``: (levels, h, w), or of several grids a sequence (T,), as
    for ``Codebook``. The name of a codebook is that of its grid and the number of its level, without what is the only
    one.

    Args:
        grids: by name, which is empty for a grid without others.
    """

    def __init__(self, grids: Mapping[str, IndexGrid]) -> None:
        self.grids = dict(grids)
        self.codebooks: list[Codebook] = []
        self.length = 0
        """Number T of an image's indices."""
        for name, grid in self.grids.items():
            levels, positions = len(grid.sizes), grid.height * grid.width
            end = self.length + levels * positions
            for level, size in enumerate(grid.sizes):
                number = str(level + 1) if levels > 1 else ""
                places = slice(self.length + level, end, levels)
                self.codebooks.append(Codebook("_".join(filter(None, (name, number))), size, positions, places))
            self.length = end

    @property
    def shape(self) -> tuple[int, ...]:
        """(levels, h, w), or (T,) with several grids."""
        shapes = [grid.shape for grid in self.grids.values()]
        return shapes[0] if len(shapes) == 1 else (self.length,)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of all codebooks."""
        return tuple(book.size for book in self.codebooks)

    def rates(self) -> list[float]:
        """-log p of the indices of each codebook if all have equal probabilities, in nats per image."""
        return [book.positions * math.log(book.size) for book in self.codebooks]

    def uniform_rate(self) -> float:
        """-log p of all indices of an image if they have equal probabilities, in nats."""
        return sum(self.rates())

    def bits(self) -> float:
        """The same in bits: what the indices of an image need without compression."""
        return sum(book.positions * math.log2(book.size) for book in self.codebooks)

    def maps(self, indices: Tensor) -> dict[str, Tensor]:
        """The map of each codebook by its name: (B, *shape) -> (B, h, w). Writing to a map changes the indices."""
        found: list[Tensor] = []
        start = 0
        for levels, height, width in [grid.shape for grid in self.grids.values()]:
            if len(self.grids) > 1:
                end = start + levels * height * width
                grid, start = indices[:, start:end].unflatten(1, (height, width, levels)).movedim(-1, 1), end
            else:
                grid = indices
            found += grid.unbind(1)
        return {book.name: each for book, each in zip(self.codebooks, found, strict=True)}

    def sequences(self, indices: Tensor) -> Tensor:
        """Indices as sequences: (B, *shape) -> int64 (B, T)."""
        return (indices if len(self.grids) > 1 else indices.movedim(1, -1).flatten(1)).long()

    def from_sequences(self, sequences: Tensor) -> Tensor:
        """The reverse of ``sequences``: (B, T) -> (B, *shape)."""
        if len(self.grids) > 1:
            return sequences
        levels, height, width = self.shape
        return sequences.view(sequences.shape[0], height, width, levels).movedim(-1, 1)

    def joined(self, *indices: Tensor) -> Tensor:
        """Indices of an image from those of its grids: (B, levels, h, w) each -> (B, *shape)."""
        return indices[0] if len(indices) == 1 else torch.cat([part.movedim(1, -1).flatten(1) for part in indices], 1)

    def split(self, indices: Tensor) -> list[Tensor]:
        """The reverse of ``joined``: (B, *shape) -> (B, levels, h, w) each."""
        maps = iter(self.maps(indices).values())
        return [torch.stack([next(maps) for _ in grid.sizes], 1) for grid in self.grids.values()]

    def usage(self, indices: Tensor) -> dict[str, Tensor]:
        """How often each image has each code: (B, *shape) -> (B, K) by name of the codebook, float32."""
        found = {}
        for book, level in zip(self.codebooks, self.maps(indices).values(), strict=True):
            ones = torch.ones(len(level), book.positions, device=level.device)
            counts = ones.new_zeros(len(level), book.size).scatter_add_(1, level.flatten(1), ones)
            found[book.name] = counts
        return found

    def counts(self, indices: Tensor) -> dict[str, Tensor]:
        """How often all images together have each code: (B, *shape) -> int64 (K,) by name of the codebook."""
        maps = self.maps(indices)
        return {
            book.name: torch.bincount(maps[book.name].flatten().long(), minlength=book.size) for book in self.codebooks
        }

    def independent_draws(
        self, counts: Mapping[str, Tensor], count: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Indices drawn independently of each other, with these frequencies of ``counts``: (count, *shape)."""
        drawn = torch.empty(count, self.length, dtype=torch.int64)
        for book in self.codebooks:
            shares = counts[book.name].double().cpu()
            each = torch.multinomial(shares, count * book.positions, replacement=True, generator=generator)
            drawn[:, book.places] = each.view(count, book.positions)
        return self.from_sequences(drawn)

    def independent_rate(self, indices: Tensor) -> float:
        """Nats per image of independent indices with the frequencies of these: N times the entropy, of each codebook.

        (B, *shape) -> a number.
        """
        found = 0.0
        for book, counts in zip(self.codebooks, self.counts(indices).values(), strict=True):
            shares = counts.double() / counts.sum()
            found += book.positions * float(torch.special.entr(shares).sum())
        return found


def one_grid(sizes: tuple[int, ...], height: int, width: int) -> IndexLayout:
    """The layout of a single grid."""
    return IndexLayout({"": IndexGrid(sizes, height, width)})
