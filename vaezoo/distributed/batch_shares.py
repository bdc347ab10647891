"""A process's share of a batch that several devices work on together. It knows tensors and the process group alone.

The processes of a run hold the same random state: noise is drawn for the whole batch everywhere, and each takes the
rows of its own images. So a run on several devices is the same experiment as on one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class BatchShare(NamedTuple):
    """``size`` images from ``start`` on, of the ``total`` that ``world_size`` processes have between them.

    A process that has none gets the batch's first image as a stand-in, since all must take every step together; its
    ``size`` is 0, and it weighs nothing.
    """

    start: int
    size: int
    total: int
    world_size: int

    @property
    def weight(self) -> float:
        """What the mean over this share counts in the mean over processes, so that this is the mean over images."""
        return self.size * self.world_size / self.total

    def rows(self, whole: Tensor, count: int) -> Tensor:
        """Of what was made for the whole batch (total, ...), the part of the ``count`` images at hand."""
        return whole[self.start : self.start + count]

    def counted(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of each image at hand without those of a stand-in: (B, ...) -> (B or 0, ...)."""
        return {name: value if self.size else value[:0] for name, value in values.items()}


def even_share(total: int, rank: int, world_size: int) -> BatchShare:
    """Contiguous shares whose sizes differ by one image at most, the larger ones first."""
    least, more = divmod(total, world_size)
    size = least + (rank < more)
    return BatchShare(rank * least + min(rank, more) if size else 0, size, total, world_size)


def share_of(batch: Sequence[Any], rank: int, world_size: int) -> BatchShare | None:
    """Which share a batch is: its third element, or one of equal ones where a loader says nothing; None if whole."""
    if world_size == 1:
        return None
    if len(batch) > 2 and isinstance(batch[2], BatchShare):
        return batch[2]
    return BatchShare(rank * len(batch[0]), len(batch[0]), world_size * len(batch[0]), world_size)


def images_in(batch: Sequence[Any], world_size: int) -> int:
    """Images that all processes have of a batch; of files that could not be read those that were planned."""
    found = share_of(batch, 0, world_size)
    return len(batch[0]) if found is None else found.total


_current: BatchShare | None = None


@contextmanager
def within_share(current: BatchShare | None) -> Iterator[None]:
    """While a batch is gone through: what is drawn or averaged here belongs to this share of it; None for all of it."""
    global _current
    before, _current = _current, current
    try:
        yield
    finally:
        _current = before


def normal_like(values: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise for each image at hand, by a ``generator`` of one's own or by the one that all share."""
    if generator is not None or _current is None:
        return torch.empty_like(values).normal_(generator=generator)
    return _current.rows(values.new_empty(_current.total, *values.shape[1:]).normal_(), len(values))


def uniform_like(values: Tensor, generator: torch.Generator, current: BatchShare | None) -> Tensor:
    """Noise in [0, 1) for each image of a share, by a generator that is in the same state in all processes."""
    size = values.shape if current is None else (current.total, *values.shape[1:])
    whole = torch.rand(size, generator=generator, device=values.device)
    return whole if current is None else current.rows(whole, len(values))


def mean(values: Tensor) -> Tensor:
    """The mean over the whole batch of values that each image at hand has equally many of, without gradient: ()."""
    if _current is None:
        return values.detach().mean()
    return _mean_of_all(values.detach(), bool(_current.size))


@torch.compiler.disable
def _mean_of_all(values: Tensor, counts: bool) -> Tensor:
    together = torch.stack([values.double().sum(), values.new_tensor(values.numel(), dtype=torch.float64)]) * counts
    torch.distributed.all_reduce(together)
    return (together[0] / together[1]).to(values.dtype)
