"""Which images train, validate and test: seeded divisions of positions. It knows no pixels and no files."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from vaezoo.config.errors import ConfigError
from vaezoo.data.images import Images, Pool


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed made of several parts, the same on every machine and in every version of every library."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def permutation(count: int, *seed: int | str) -> NDArray[np.int64]:
    """The positions 0 to ``count`` - 1 in an order that depends on ``seed`` alone.

    Sorted raw random bits: numpy promises that these never change, and promises nothing of its shuffling.
    """
    return np.argsort(np.random.PCG64(seed_of(*seed)).random_raw(count), kind="stable")


def divide(
    pool: Pool, *, val_size: int | float, test_size: int | float | None, split_seed: int, limit: int | None
) -> dict[str, Images]:
    """The splits "train", "val" and "test", each in a fixed mixed order.

    Official splits stay what they are; the others are taken off the training images, test first, so that both stay the
    same whatever ``limit`` is, and a smaller ``limit`` keeps a part of a larger one's images.
    """
    total = len(pool.train)
    rest = permutation(total, split_seed, "train")
    splits: dict[str, Images] = {}
    for name, official, size in (("test", pool.test, test_size), ("val", pool.val, val_size)):
        if official is not None:
            splits[name] = official.select(permutation(len(official), split_seed, name))
        else:
            count = _count(name, size, total, len(rest))
            splits[name], rest = pool.train.select(rest[:count]), rest[count:]
    if limit is not None and limit > len(rest):
        raise ConfigError(f"data.limit={limit} is more than the {len(rest)} images available for training; lower it")
    splits["train"] = pool.train.select(rest[:limit])
    return splits


def _count(name: str, size: int | float | None, total: int, left: int) -> int:
    """How many of ``total`` images a split of ``size`` has: a number of them, or a fraction."""
    if size is None:
        raise ConfigError(f"data.{name}_size is needed, as this data set has no official {name} split; set a number")
    count = round(size * total) if isinstance(size, float) else size
    if not 1 <= count < left:
        raise ConfigError(
            f"data.{name}_size={size} takes {count} of {left} images; "
            + (f"choose a number from 1 to {left - 1}" if left > 1 else "there are too few to split, add images")
        )
    return count
