"""Sampling of codes whose images share one factor's value, from a set of encoded images or from a whole lattice."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaezoo.config.errors import DataError

Codes = NDArray[np.float64]
Classes = NDArray[np.int64]


class FactorSampler(Protocol):
    """Draws codes with one factor fixed and all others free."""

    @property
    def factor_count(self) -> int:
        """The number of factors that can be fixed."""

    def sharing(self, factor: int, count: int, generator: np.random.Generator) -> Codes:
        """Codes of up to ``count`` images that share a random value of ``factor``: (count, D)."""

    def pairs(self, factor: int, count: int, generator: np.random.Generator) -> tuple[Codes, Codes]:
        """Codes of ``count`` pairs of images; each pair shares its value of ``factor``: twice (count, D)."""


class _Groups(NamedTuple):
    """Images sorted by their class of one factor, without those that are alone in their class.

    ``order`` (M,) are their indices in the set; ``start`` and ``size`` (M,) the range in it of each image's class.
    """

    order: Classes
    start: Classes
    size: Classes


class EncodedImages:
    """Codes (N, D) of a finite set of images with their factor classes (N, F), and a ``FactorSampler`` over them.

    A fixed factor selects among the given images, so nothing is encoded again. Unlike samples from the whole lattice,
    values are as frequent as in the set, images in a batch or pair are always distinct, and a batch is at most as large
    as its class. Single batches have the distribution of lattice batches, but are not independent of each other,
    because they share the chance deviations of the set.

    Raises:
        DataError: the shapes do not match, a code is not finite, or a class is not an integer.
    """

    def __init__(self, codes: ArrayLike, classes: ArrayLike) -> None:
        self.codes: Codes = np.asarray(codes, np.float64)
        if self.codes.ndim != 2 or self.codes.size == 0:
            raise DataError(f"codes must be numbers of shape (images, dimensions), got shape {self.codes.shape}")
        if not np.isfinite(self.codes).all():
            raise DataError("some codes are infinite or not numbers: the model's weights have diverged")
        self.classes = _whole(classes, len(self.codes))
        self._groups = [_grouped(column) for column in self.classes.T]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def factor_count(self) -> int:
        return self.classes.shape[1]

    @property
    def varying(self) -> tuple[int, ...]:
        """Indices of the factors that have more than one value in this set."""
        return tuple(np.flatnonzero((self.classes != self.classes[:1]).any(0)).tolist())

    @property
    def fewest_alike(self) -> int:
        """Size of the smallest class of any factor, ignoring classes of one image; 0 if a factor has no other."""
        return min((int(groups.size.min(initial=len(self))) if len(groups.size) else 0) for groups in self._groups)

    def select(self, images: Any = slice(None), factors: Any = slice(None)) -> Self:
        """A subset of images and factors, by index."""
        return type(self)(self.codes[images], self.classes[images][:, factors])

    def sharing(self, factor: int, count: int, generator: np.random.Generator) -> Codes:
        groups = self._shared(factor)
        chosen = generator.integers(len(groups.order))
        start, size = groups.start[chosen], groups.size[chosen]
        return self.codes[groups.order[start + generator.choice(size, min(count, size), replace=False)]]

    def pairs(self, factor: int, count: int, generator: np.random.Generator) -> tuple[Codes, Codes]:
        groups = self._shared(factor)
        first = generator.integers(len(groups.order), size=count)
        start, size = groups.start[first], groups.size[first]
        # An image is never paired with itself: that would reveal small classes by their small differences.
        second = start + (first - start + generator.integers(1, size)) % size
        return self.codes[groups.order[first]], self.codes[groups.order[second]]

    def _shared(self, factor: int) -> _Groups:
        groups = self._groups[factor]
        if len(groups.order) == 0:
            raise DataError(f"no two of the {len(self)} images share a value of factor {factor}; encode more images")
        return groups


class EncodedLattice:
    """A ``FactorSampler`` that encodes new images for every batch, with all values of all factors equally likely.

    Args:
        encode: maps factor classes to the codes of their images: (N, F) -> (N, D).
        sizes: number of values of each factor.
    """

    def __init__(self, encode: Callable[[Classes], ArrayLike], sizes: Sequence[int]) -> None:
        self.encode, self.sizes = encode, tuple(sizes)

    @property
    def factor_count(self) -> int:
        return len(self.sizes)

    def sharing(self, factor: int, count: int, generator: np.random.Generator) -> Codes:
        classes = self._draw(count, generator)
        classes[:, factor] = classes[0, factor]
        return self._codes(classes)

    def pairs(self, factor: int, count: int, generator: np.random.Generator) -> tuple[Codes, Codes]:
        classes = self._draw(2 * count, generator)
        classes[count:, factor] = classes[:count, factor]
        codes = self._codes(classes)
        return codes[:count], codes[count:]

    def _draw(self, count: int, generator: np.random.Generator) -> Classes:
        return generator.integers(self.sizes, size=(count, len(self.sizes)))

    def _codes(self, classes: Classes) -> Codes:
        return np.asarray(self.encode(classes), np.float64)


def _whole(classes: ArrayLike, images: int) -> Classes:
    """The classes (N, F) as integers; DataError for wrong shapes or fractions."""
    given = np.asarray(classes)
    if given.ndim != 2 or len(given) != images or given.shape[1] == 0:
        raise DataError(f"factor classes of {images} images must have shape ({images}, factors), got {given.shape}")
    whole = given.astype(np.int64)
    if (whole != given).any():
        raise DataError("factor classes must be whole numbers; number the values of a continuous factor first")
    return whole


def _grouped(column: Classes) -> _Groups:
    _, value_of, counts = np.unique(column, return_inverse=True, return_counts=True)
    order = np.argsort(value_of, kind="stable")
    order = order[counts[value_of[order]] > 1]
    sizes = np.where(counts > 1, counts, 0)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return _Groups(order, starts[value_of[order]], sizes[value_of[order]])
