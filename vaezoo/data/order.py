"""In which order and in which batches images are seen, and by which process. It knows counts, no images."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vaezoo.data.splits import seed_of
from vaezoo.errors import ConfigError


class EpochOrder(ABC):
    """The batches of one process in one epoch: a function of (seed, epoch, rank) that can start in the middle.

    Lightning tells it the epoch. No global random state is read or changed.
    """

    def __init__(self, count: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size, self.rank, self.world_size = count, batch_size, rank, world_size
        self.epoch = 0
        self.start = 0  # of the next pass: batches that a checkpoint says were seen

    @abstractmethod
    def __len__(self) -> int:
        """Batches in a whole epoch, the same number on every rank."""

    @abstractmethod
    def batches(self) -> list[Tensor]:
        """The positions (B,) of each batch of the whole epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Another epoch starts at its beginning; the same one keeps a start in the middle."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def begin(self) -> int:
        """How many batches the pass that begins now shall leave out; the next pass will leave out none."""
        start, self.start = self.start, 0
        return start


class TrainingOrder(EpochOrder):
    """Global batches of ``batch_size`` images, shared equally by the ranks; shuffled by ``seed`` unless it is None.

    Gradients are averaged over ranks, so that equal shares make the result that of one process: of a last batch that is
    short, as many images as cannot be shared equally (fewer than there are ranks) are left to another epoch.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int | None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(count, batch_size, rank=rank, world_size=world_size)
        self.seed, self.drop_last = seed, drop_last
        if batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size} cannot be shared equally by {world_size} devices; "
                f"use a multiple of {world_size}"
            )
        if not len(self):
            raise ConfigError(
                f"{count} training images give no batch; lower data.batch_size or set data.drop_last=false"
            )

    def __len__(self) -> int:
        full, rest = divmod(self.count, self.batch_size)
        return full + (rest >= self.world_size and not self.drop_last)

    def batches(self) -> list[Tensor]:
        order = self._permutation()
        return [self._share(batch) for batch in order.split(self.batch_size)[: len(self)]]

    def _permutation(self) -> Tensor:
        if self.seed is None:
            return torch.arange(self.count)
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        return torch.randperm(self.count, generator=generator)

    def _share(self, batch: Tensor) -> Tensor:
        size = len(batch) // self.world_size
        return batch[self.rank * size : (self.rank + 1) * size]


class EvaluationOrder(EpochOrder):
    """Every image exactly once and never shuffled, over ranks whose shares differ by one image at most.

    Each rank cuts its share into the same number of nearly equal batches, so that no rank waits for another.
    """

    def __init__(self, count: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(count, batch_size, rank=rank, world_size=world_size)
        if count < world_size:
            raise ConfigError(f"{count} images cannot be evaluated on {world_size} devices; use fewer devices")

    def __len__(self) -> int:
        largest_share = -(-self.count // self.world_size)
        # No more batches than the smallest share has images: a batch must not be empty.
        return min(-(-largest_share // self.batch_size), self.count // self.world_size)

    def batches(self) -> list[Tensor]:
        return list(torch.arange(self.count)[self.rank :: self.world_size].tensor_split(len(self)))
