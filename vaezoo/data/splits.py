"""Seeded division of images into training, validation and test splits."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import ConfigError
from vaezoo.data.images import Factor, Images, Pool


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed derived from several parts, independent of machine and library versions."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def permutation(count: int, *seed: int | str) -> NDArray[np.int64]:
    """A permutation of 0 to ``count`` - 1 that depends only on ``seed``.

    The argsort of raw random bits: numpy guarantees that these never change, unlike its shuffling.
    """
    return np.argsort(np.random.PCG64(seed_of(*seed)).random_raw(count), kind="stable")


def divide(
    pool: Pool,
    *,
    val_size: int | float,
    test_size: int | float | None,
    split_seed: int,
    limit: int | None,
    left_out: Collection[int] = (),
) -> dict[str, Images]:
    """The splits "train", "val" and "test", each in a fixed shuffled order.

    Official splits are kept; others are taken from the training images, test first, so that they do not depend on
    ``limit``, and the images of a smaller ``limit`` are a subset of those of a larger one. Training and validation then
    lose the images whose label is ``left_out``. ConfigError for sizes that leave no training images.
    """
    total = len(pool.train)
    rest = permutation(total, split_seed, "train")
    splits: dict[str, Images] = {}
    for name, official, size in (("test", pool.test, test_size), ("val", pool.val, val_size)):
        if official is not None:
            images, chosen = official, permutation(len(official), split_seed, name)
        else:
            count = _count(name, size, total, len(rest))
            images, chosen, rest = pool.train, rest[:count], rest[count:]
        splits[name] = images.select(chosen if name == "test" else _without(left_out, images, chosen))
    rest = _without(left_out, pool.train, rest)
    if limit is not None and limit > len(rest):
        raise ConfigError(f"data.limit={limit} is more than the {len(rest)} images available for training; lower it")
    splits["train"] = pool.train.select(rest[:limit])
    if not len(splits["train"]) or not len(splits["val"]):
        raise ConfigError(f"without the classes {sorted(left_out)} of data.leave_out, no images are left; name fewer")
    return splits


def _without(left_out: Collection[int], images: Images, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions of images whose label is none of these numbers."""
    if not left_out:
        return positions
    return positions[~np.isin(images.labels.numpy()[positions], list(left_out))]


def left_out_labels(factors: Sequence[Factor], wanted: Sequence[int | str] | None) -> tuple[int, ...]:
    """The labels of the classes that ``data.leave_out`` has by name or else by number; ConfigError without them."""
    if wanted is None:
        return ()
    if len(factors) != 1:
        raise ConfigError(
            f"data.leave_out={list(wanted)} needs images of one class each, and these have {len(factors)} labels each;"
            " set it to null"
        )
    names = [str(value) for value in factors[0].values]
    found = [names.index(str(each)) if str(each) in names else each for each in wanted]
    if unknown := [each for each in found if isinstance(each, str) or each >= len(names)]:
        raise ConfigError(f"data.leave_out={unknown[0]} is not a class of these images, which are {', '.join(names)}")
    return tuple(sorted({int(each) for each in found}))


def _count(name: str, size: int | float | None, total: int, left: int) -> int:
    """Number of images of a split; ``size`` is a number or a fraction of ``total``."""
    if size is None:
        raise ConfigError(f"data.{name}_size is needed, as this data set has no official {name} split; set a number")
    count = round(size * total) if isinstance(size, float) else size
    if not 1 <= count < left:
        raise ConfigError(
            f"data.{name}_size={size} takes {count} of {left} images; "
            + (f"choose a number from 1 to {left - 1}" if left > 1 else "there are too few to split, add images")
        )
    return count
