"""Splitting a batch over ranks so that a run on several devices gives the same result as on one, up to rounding.

All ranks have the same random state: each draws the noise of the whole batch and uses the rows of its own images.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class BatchShare(NamedTuple):
    """A rank's part of a batch: ``size`` images from index ``start`` of the ``total`` of all ranks.

    A rank without images gets the first image with weight 0 (``size`` is 0), so that all ranks take the same steps.
    """

    start: int
    size: int
    total: int
    world_size: int

    @property
    def weight(self) -> float:
        """Weight of this share's mean, such that the weighted mean over ranks is the mean over images."""
        return self.size * self.world_size / self.total

    def rows(self, whole: Tensor, count: int) -> Tensor:
        """This rank's rows of a tensor made for the whole batch: (total, ...) -> (count, ...)."""
        return whole[self.start : self.start + count]

    def counted(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Per-image values without those of a stand-in image: (B, ...) -> (B, ...) or (0, ...)."""
        return {name: value if self.size else value[:0] for name, value in values.items()}


def even_share(total: int, rank: int, world_size: int) -> BatchShare:
    """The share of ``rank``: contiguous shares whose sizes differ by at most one image, larger ones first."""
    least, more = divmod(total, world_size)
    size = least + (rank < more)
    return BatchShare(rank * least + min(rank, more) if size else 0, size, total, world_size)


def share_of(batch: Sequence[Any], rank: int, world_size: int) -> BatchShare | None:
    """The share of a batch: its third element, or one of equal shares if there is none; None on a single rank."""
    if world_size == 1:
        return None
    if len(batch) > 2 and isinstance(batch[2], BatchShare):
        return batch[2]
    return BatchShare(rank * len(batch[0]), len(batch[0]), world_size * len(batch[0]), world_size)


def images_in(batch: Sequence[Any], world_size: int) -> int:
    """Number of images of a batch over all ranks, including files that could not be read."""
    found = share_of(batch, 0, world_size)
    return len(batch[0]) if found is None else found.total


_current: BatchShare | None = None


@contextmanager
def within_share(current: BatchShare | None) -> Iterator[None]:
    """Within the block, noise and means are those of this share of a batch; None stands for a whole batch."""
    global _current
    before, _current = _current, current
    try:
        yield
    finally:
        _current = before


def current() -> BatchShare | None:
    """The share of the innermost ``within_share``."""
    return _current


def size_of_whole(count: int) -> int:
    """Number of images of the whole batch, of which ``count`` are here."""
    return count if _current is None else _current.total


def normal_like(values: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of the shape of ``values`` (B, ...): this share's rows of the whole batch's noise.

    A ``generator``, if given, draws only the rows of ``values``.
    """
    if generator is not None or _current is None:
        return torch.empty_like(values).normal_(generator=generator)
    return _current.rows(values.new_empty(_current.total, *values.shape[1:]).normal_(), len(values))


def exponential_like(values: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same from the exponential distribution of rate 1."""
    if generator is not None or _current is None:
        return torch.empty_like(values).exponential_(generator=generator)
    return _current.rows(values.new_empty(_current.total, *values.shape[1:]).exponential_(), len(values))


def uniform_like(values: Tensor, generator: torch.Generator, current: BatchShare | None) -> Tensor:
    """Uniform noise in [0, 1) of the shape of ``values`` (B, ...); ``generator`` has the same state on all ranks."""
    size = values.shape if current is None else (current.total, *values.shape[1:])
    whole = torch.rand(size, generator=generator, device=values.device)
    return whole if current is None else current.rows(whole, len(values))


def mean(values: Tensor) -> Tensor:
    """The detached mean of values (B, ...) over the whole batch: (). Collective within a share."""
    if _current is None:
        return values.detach().mean()
    return _mean_of_all(values.detach(), bool(_current.size))


@torch.compiler.disable
def _mean_of_all(values: Tensor, counts: bool) -> Tensor:
    together = torch.stack([values.double().sum(), values.new_tensor(values.numel(), dtype=torch.float64)]) * counts
    torch.distributed.all_reduce(together)
    return (together[0] / together[1]).to(values.dtype)


def sum_of_all(values: Tensor) -> Tensor:
    """The detached sum of ``values`` over ranks, to which a rank with a stand-in image adds nothing.

    Same shape. Collective within a share; otherwise the values themselves.
    """
    if _current is None:
        return values.detach()
    return _sum_of_all(values.detach(), bool(_current.size))


@torch.compiler.disable
def _sum_of_all(values: Tensor, counts: bool) -> Tensor:
    together = values.clone() if counts else torch.zeros_like(values)
    torch.distributed.all_reduce(together)
    return together


def whole_batch(values: Tensor) -> Tensor:
    """The rows of all ranks in the order of the whole batch, without those of stand-ins: (B, ...) -> (total, ...).

    Differentiable with respect to this rank's rows; those of other ranks are constants. Identity outside of a share,
    and collective within one.
    """
    if _current is None:
        return values
    start, size, everything = _current.start, _current.size, _gathered(values.detach(), _current)
    return torch.cat([everything[:start], values[:size], everything[start + size :]])


def own_rows(whole: Tensor, count: int) -> Tensor:
    """This rank's rows of a tensor of the whole batch: (total, ...) -> (count, ...). Identity outside of a share."""
    return whole if _current is None else _current.rows(whole, count)


def statistic(value: Tensor) -> Tensor:
    """A function of the rows of ``whole_batch``, as a term of this rank's loss: () -> ().

    The value is the same. The gradient is scaled such that it becomes that of the statistic when the loss has been
    weighted with ``BatchShare.weight`` and gradients have been averaged over ranks; a stand-in contributes zero.
    """
    if _current is None:
        return value
    scale = _current.total / _current.size if _current.size else 0.0
    return scale * (value - value.detach()) + value.detach()


@torch.compiler.disable
def _gathered(values: Tensor, share: BatchShare) -> Tensor:
    # Rows of a sum of zeros, as ranks do not know each other's sizes; adding zeros is exact.
    everything = values.new_zeros(share.total, *values.shape[1:])
    everything[share.start : share.start + share.size] = values[: share.size]
    torch.distributed.all_reduce(everything)
    return everything
