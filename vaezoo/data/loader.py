"""Batches by index: from memory, or decoded by worker processes where memory is short. It knows no data sets."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vaezoo.data.files import Decoded, Unreadable, as_is, first_readable
from vaezoo.data.images import ImageTensor
from vaezoo.data.order import EpochOrder, TrainingOrder
from vaezoo.data.splits import seed_of
from vaezoo.data.workers import end, leave_signals_to_the_run, passing
from vaezoo.distributed.batch_shares import BatchShare


class Batch(NamedTuple):
    """What travels to the device: stored pixels, labels, the seed of the noise that shall binarise them, if any, and
    which share of a batch these images are, where several processes have one between them."""

    images: Tensor
    labels: Tensor
    noise_seed: int | None
    share: BatchShare | None = None


class Loader(ABC):
    """The batches of an ``EpochOrder``, one pass for each ``iter``. A checkpoint holds how far it came.

    ``noise_seed``: the run's seed where every batch is to be binarised anew, else None. ``finish`` makes what a pass
    gives of each stored batch; without it a pass gives stored batches, for a trainer that finishes them on its device.
    """

    # Lightning looks for a sampler, tells it the epoch, and replaces what it takes for a DataLoader of torch.
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
        """One pass over the batches as they are stored."""
        # A generator: nothing happens before the first batch is asked for, by when Lightning has told the epoch.
        start = self.position = self.sampler.begin()
        decoded = self._pixels(self.sampler.batches()[start:])
        for share, (images, labels) in zip(self.sampler.shares()[start:], decoded, strict=True):
            seed = self._seed()
            self.position += 1
            if len(images):
                yield Batch(images, labels, seed, share)
            elif share is not None or isinstance(self.sampler, TrainingOrder):
                # Processes wait for each other, and steps are counted: a batch must not go missing.
                nothing = share and share._replace(start=0, size=0)
                yield Batch(*self._stand_in(), seed, nothing)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self.sampler.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where ``state`` was taken, if the next pass belongs to the same epoch."""
        self.sampler.set_epoch(state["epoch"])
        self.sampler.start = self.position = state["position"]

    def _seed(self) -> int | None:
        if self.noise_seed is None:
            return None
        return seed_of(self.noise_seed, "noise", self.sampler.epoch, self.position, 0)

    def again(self, place: int) -> tuple[Tensor, Batch]:
        """The batch at that place in the present epoch, that of all processes together, and its images' positions.

        It is made once more, as it was; a pass that is under way does not notice.
        """
        order = copy(self.sampler)
        order.rank, order.world_size = 0, 1
        positions, images, labels = self._read(order.batches()[place])
        seed = None if self.noise_seed is None else seed_of(self.noise_seed, "noise", order.epoch, place, 0)
        return positions, Batch(images, labels, seed)

    @abstractmethod
    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, stored pixels and labels of those images that can be read."""

    @abstractmethod
    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Stored pixels and labels of each batch of positions; none where none of them can be read."""

    @abstractmethod
    def _stand_in(self) -> tuple[Tensor, Tensor]:
        """One image and its label, for a batch of which nothing can be read."""


class InMemoryLoader(Loader):
    """One tensor, a batch is one ``index_select``: no Python for single images, no worker processes."""

    def __init__(
        self, images: ImageTensor, order: EpochOrder, noise_seed: int | None = None, *, pin_memory: bool = False
    ) -> None:
        super().__init__(order, noise_seed)
        self.images, self.pin_memory = images, pin_memory

    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        pixels, labels = self.images.pixels, self.images.labels
        if not batches:
            return
        # One transfer of the whole order, and none for each batch.
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
    """Files decoded by worker processes that live until the loader is closed. Batches are short by what cannot be read.

    On several devices a share weighs as many images as were planned for it, whatever of them can be read: no process
    knows what another one could not. One of which nothing can be read weighs nothing.

    ``waited``: seconds in which a batch was asked for and was not there yet, over all passes.
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
        self._wanted = _Wanted()
        self._decoded: DataLoader[Decoded] = DataLoader(
            unreadable.files,
            batch_sampler=self._wanted,
            collate_fn=as_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # else each pass would draw from the global one
            worker_init_fn=leave_signals_to_the_run,
        )

    def close(self) -> None:
        """End the workers; another pass would start new ones."""
        end(self._decoded)

    def _pixels(self, batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self._wanted.batches = batches
        for decoded in self._wait_for(passing(self._decoded)):
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
        """Hand on what comes, and book how long it was waited for."""
        asked = time.perf_counter()
        for decoded in source:
            self.waited += time.perf_counter() - asked
            yield decoded
            asked = time.perf_counter()


class _Wanted:
    """The batches of the present epoch, as torch's DataLoader wants to be told them."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)
