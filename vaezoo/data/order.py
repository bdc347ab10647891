"""The order of images in an epoch, and their division into batches and between processes."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.data.splits import seed_of
from vaezoo.distributed.batch_shares import BatchShare, even_share


class EpochOrder(ABC):
    """The batches of one epoch, and this process's share of each: a function of (seed, epoch).

    A batch is divided into contiguous shares whose sizes differ by at most one image, so that it is the same on any
    number of devices. Global random state is neither read nor changed.
    """

    def __init__(self, count: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size, self.rank, self.world_size = count, batch_size, rank, world_size
        self.epoch = 0
        self.start = 0  # batches that the next pass skips, because they were seen before a checkpoint

    @abstractmethod
    def __len__(self) -> int:
        """Number of batches in an epoch, the same on every rank."""

    @abstractmethod
    def whole_batches(self) -> list[Tensor]:
        """Positions (B,) of each batch of the epoch, of all processes."""

    def batches(self) -> list[Tensor]:
        """Positions of this process's images in each batch; the first image of the batch if its share is empty."""
        whole = self.whole_batches()
        if self.world_size == 1:
            return whole
        return [own.rows(batch, max(own.size, 1)) for own, batch in zip(self._shares(whole), whole, strict=True)]

    def shares(self) -> list[BatchShare] | list[None]:
        """This process's share of each batch; None in a single process."""
        return [None] * len(self) if self.world_size == 1 else self._shares(self.whole_batches())

    def _shares(self, whole: list[Tensor]) -> list[BatchShare]:
        return [even_share(len(batch), self.rank, self.world_size) for batch in whole]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; a new one starts at its first batch, the current one keeps its start."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def begin(self) -> int:
        """Number of batches that the pass starting now must skip; later passes skip none."""
        start, self.start = self.start, 0
        return start


class TrainingOrder(EpochOrder):
    """Batches of ``batch_size`` images, shuffled by ``seed`` unless None; the last may be shorter.

    ConfigError if there is no batch.
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
        if not len(self):
            raise ConfigError(
                f"{count} training images give no batch; lower data.batch_size or set data.drop_last=false"
            )

    def __len__(self) -> int:
        full, rest = divmod(self.count, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def whole_batches(self) -> list[Tensor]:
        return list(self._permutation().split(self.batch_size)[: len(self)])

    def _permutation(self) -> Tensor:
        if self.seed is None:
            return torch.arange(self.count)
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        return torch.randperm(self.count, generator=generator)


class EvaluationOrder(EpochOrder):
    """All images in a fixed order, in nearly equal batches of at most ``batch_size``."""

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def whole_batches(self) -> list[Tensor]:
        return list(torch.arange(self.count).tensor_split(len(self)))
