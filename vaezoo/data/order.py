"""In which order and in which batches images are seen, and by which process. It knows counts, no images."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.data.splits import seed_of
from vaezoo.distributed.batch_shares import BatchShare, even_share


class EpochOrder(ABC):
    """The batches of one epoch, and what one process has of each: a function of (seed, epoch) that can start anywhere.

    A batch is cut into contiguous shares whose sizes differ by one image at most, so that it is the same one on any
    number of devices. Lightning tells the epoch. No global random state is read or changed.
    """

    def __init__(self, count: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size, self.rank, self.world_size = count, batch_size, rank, world_size
        self.epoch = 0
        self.start = 0  # of the next pass: batches that a checkpoint says were seen

    @abstractmethod
    def __len__(self) -> int:
        """Batches in a whole epoch, the same number on every rank."""

    @abstractmethod
    def whole_batches(self) -> list[Tensor]:
        """The positions (B,) of each batch of the whole epoch, those of all processes together."""

    def batches(self) -> list[Tensor]:
        """The positions of this process's images in each batch; a stand-in where it has none."""
        whole = self.whole_batches()
        if self.world_size == 1:
            return whole
        return [own.rows(batch, max(own.size, 1)) for own, batch in zip(self._shares(whole), whole, strict=True)]

    def shares(self) -> list[BatchShare] | list[None]:
        """What this process has of each batch; None where it has all of it."""
        return [None] * len(self) if self.world_size == 1 else self._shares(self.whole_batches())

    def _shares(self, whole: list[Tensor]) -> list[BatchShare]:
        return [even_share(len(batch), self.rank, self.world_size) for batch in whole]

    def set_epoch(self, epoch: int) -> None:
        """Another epoch starts at its beginning; the same one keeps a start in the middle."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def begin(self) -> int:
        """How many batches the pass that begins now shall leave out; the next pass will leave out none."""
        start, self.start = self.start, 0
        return start


class TrainingOrder(EpochOrder):
    """Batches of ``batch_size`` images, shuffled by ``seed`` unless it is None; the last one may be short."""

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
    """Every image exactly once and never shuffled, in nearly equal batches of no more than ``batch_size``."""

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def whole_batches(self) -> list[Tensor]:
        return list(torch.arange(self.count).tensor_split(len(self)))
