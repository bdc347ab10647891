"""Loaders of batches: from memory, or decoded by worker processes."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vaezoo.data.images import ImageTensor
from vaezoo.data.on_disk import Decoded, Unreadable, as_is, first_readable
from vaezoo.data.order import EpochOrder, TrainingOrder
from vaezoo.data.splits import seed_of
from vaezoo.data.workers import leave_signals_to_the_run, one_pass, shut_down
from vaezoo.distributed.batch_shares import BatchShare


class Batch(NamedTuple):
    """A batch before it is moved to the device: stored pixels and labels, the seed for binarising them, if any, and
    the process's share, if the batch is divided between processes."""

    images: Tensor
    labels: Tensor
    noise_seed: int | None
    share: BatchShare | None = None


class Loader(ABC):
    """Yields the batches of an ``EpochOrder``; its position is part of checkpoints.

    ``noise_seed``: the run's seed if each batch is binarised anew, else None. ``finish`` is applied to each stored
    batch; if None, stored batches are yielded, for a trainer that converts them on its device.
    """

    # Lightning sets the epoch of ``sampler``, and would replace what it takes for torch's DataLoader.
    batch_sampler = None

    def __init__(self, order: EpochOrder, noise_seed: int | None = None) -> None:
        self.sampler = order
        self.noise_seed = noise_seed
        self.finish: Callable[[Batch], tuple[Any, ...]] | None = None
        self.position = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        return self.stored() if self.finish is None else map(self.finish, self.stored())

    def stored(self) -> Iterator[Batch]:
        """One pass over the stored batches."""
        # A generator, so that nothing happens before the first batch is requested, when Lightning has set the epoch.
        start = self.position = self.sampler.begin()
        decoded = self._pixels(self.sampler.batches()[start:])
        for share, (images, labels) in zip(self.sampler.shares()[start:], decoded, strict=True):
            seed = self._seed()
            self.position += 1
            if len(images):
                yield Batch(images, labels, seed, share)
            elif share is not None or isinstance(self.sampler, TrainingOrder):
                # Processes wait for each other, and steps are counted, so no batch may be missing.
                empty = share and share._replace(start=0, size=0)
                yield Batch(*self._stand_in(), seed, empty)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and the number of its batches already yielded."""
        return {"epoch": self.sampler.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at the position in ``state``, if the next pass is in the same epoch."""
        self.sampler.set_epoch(state["epoch"])
        self.sampler.start = self.position = state["position"]

    def _seed(self) -> int | None:
        if self.noise_seed is None:
            return None
        return seed_of(self.noise_seed, "noise", self.sampler.epoch, self.position, 0)

    def reread(self, place: int) -> tuple[Tensor, Batch]:
        """Recreate the whole batch at an index in the current epoch, of all processes; also returns its positions (B,).

        Does not affect a pass in progress.
        """
        order = copy(self.sampler)
        order.rank, order.world_size = 0, 1
        positions, images, labels = self._read(order.batches()[place])
        seed = None if self.noise_seed is None else seed_of(self.noise_seed, "noise", order.epoch, place, 0)
        return positions, Batch(images, labels, seed)

    @abstractmethod
    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, stored pixels and labels of the images that can be read."""

    @abstractmethod
    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Stored pixels and labels of each batch of positions; empty if none can be read."""

    @abstractmethod
    def _stand_in(self) -> tuple[Tensor, Tensor]:
        """One image and its label, in place of a batch that cannot be read at all."""


class InMemoryLoader(Loader):
    """Images in one tensor; each batch is one ``index_select``, without worker processes."""

    def __init__(
        self, images: ImageTensor, order: EpochOrder, noise_seed: int | None = None, *, pin_memory: bool = False
    ) -> None:
        super().__init__(order, noise_seed)
        self.images, self.pin_memory = images, pin_memory

    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        pixels, labels = self.images.pixels, self.images.labels
        if not batches:
            return
        # The whole order is transferred at once, rather than batch by batch.
        sizes = [len(batch) for batch in batches]
        for batch in torch.cat(batches).to(pixels.device).split(sizes):
            chosen = pixels.index_select(0, batch)
            yield (chosen.pin_memory() if self.pin_memory else chosen), labels.index_select(0, batch)

    def _stand_in(self) -> tuple[Tensor, Tensor]:
        return self.images.pixels[:1], self.images.labels[:1]

    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = positions.to(self.images.pixels.device)
        return positions, self.images.pixels.index_select(0, chosen), self.images.labels.index_select(0, chosen)


class StreamingLoader(Loader):
    """Files decoded by worker processes, which live until the loader is closed. Unreadable images are omitted.

    On several devices, a share is weighted by its planned number of images, because ranks do not know which files the
    others could not read; a share that cannot be read at all has weight 0.

    ``waited``: seconds spent waiting for batches, over all passes.
    """

    def __init__(
        self,
        unreadable: Unreadable,
        order: EpochOrder,
        noise_seed: int | None = None,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(order, noise_seed)
        self.unreadable = unreadable
        self.waited = 0.0
        self._wanted = _Batches()
        self._decoded: DataLoader[Decoded] = DataLoader(
            unreadable.files,
            batch_sampler=self._wanted,
            collate_fn=as_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # otherwise each pass would draw from the global generator
            worker_init_fn=leave_signals_to_the_run,
        )

    def close(self) -> None:
        """Shut down the workers; the next pass starts new ones."""
        shut_down(self._decoded)

    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self._wanted.batches = batches
        for decoded in self._wait_for(one_pass(self._decoded)):
            self.unreadable.add(decoded.failed)
            self.unreadable.check()
            yield decoded.images, decoded.labels

    def _stand_in(self) -> tuple[Tensor, Tensor]:
        _, images, labels = first_readable(self.unreadable, 1)
        return images, labels

    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decoded = self.unreadable.files.__getitems__(positions.tolist())
        failed = {position for position, _ in decoded.failed}
        read = [position for position in positions.tolist() if position not in failed]
        return torch.tensor(read, dtype=torch.long), decoded.images, decoded.labels

    def _wait_for(self, source: Iterable[Decoded]) -> Iterator[Decoded]:
        """Yield from ``source``, and add the time spent waiting for it to ``waited``."""
        requested = time.perf_counter()
        for decoded in source:
            self.waited += time.perf_counter() - requested
            yield decoded
            requested = time.perf_counter()


class _Batches:
    """The batches of the current epoch, as a ``batch_sampler`` for torch's DataLoader."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)
