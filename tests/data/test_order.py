"""The order of images: which batches each process sees, in every epoch and from its middle."""

from typing import Any

import pytest
import torch

from vaezoo.config.errors import ConfigError
from vaezoo.data.order import EpochOrder, EvaluationOrder, TrainingOrder


def seen(order: EpochOrder) -> list[int]:
    return torch.cat(order.batches()).tolist()


def test_training_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = TrainingOrder(100, 8, seed=seed)
        order.set_epoch(number)
        return seen(order)

    assert epoch(0, 3) == epoch(0, 3)
    assert sorted(epoch(0, 3)) == list(range(100))
    assert len({tuple(epoch(seed, number)) for seed in (0, 1) for number in (0, 1)}) == 4


def test_order_neither_reads_nor_changes_the_global_random_state() -> None:
    before = torch.get_rng_state()
    first = seen(TrainingOrder(50, 5, seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert seen(TrainingOrder(50, 5, seed=0)) == first


def test_order_without_a_seed_is_not_shuffled() -> None:
    assert seen(TrainingOrder(10, 3, seed=None)) == list(range(10))


@pytest.mark.parametrize("kind", [TrainingOrder, EvaluationOrder])
@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("count", [1, 8, 23, 64])
@pytest.mark.parametrize("batch_size", [7, 8, 100])
def test_shares_of_a_batch_are_the_batch_of_one_device(
    kind: type[EpochOrder], world_size: int, count: int, batch_size: int
) -> None:
    seed: dict[str, Any] = {"seed": 0} if kind is TrainingOrder else {}
    alone = kind(count, batch_size, **seed)
    orders = [kind(count, batch_size, rank=rank, world_size=world_size, **seed) for rank in range(world_size)]
    assert {len(order) for order in orders} == {len(alone)} == {len(alone.batches())}
    for number, batch in enumerate(alone.batches()):
        shares = [order.shares()[number] for order in orders]
        parts = [order.batches()[number][: share.size] for order, share in zip(orders, shares, strict=True)]
        assert torch.equal(torch.cat(parts), batch)
        sizes = [share.size for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert sum(share.weight for share in shares) == pytest.approx(world_size)
        for order, share in zip(orders, shares, strict=True):
            assert share.size or order.batches()[number].tolist() == batch[:1].tolist()


def test_one_device_has_no_shares() -> None:
    assert TrainingOrder(10, 4, seed=0).shares() == [None, None, None]


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 1]), (True, [4, 4])])
def test_last_training_batch_is_short_or_dropped(drop_last: bool, sizes: list[int]) -> None:
    order = TrainingOrder(9, 4, seed=0, drop_last=drop_last)
    assert [len(batch) for batch in order.batches()] == sizes
    assert len(order) == len(sizes)


def test_evaluation_batches_hold_no_more_than_batch_size() -> None:
    assert [len(batch) for batch in EvaluationOrder(1001, 500).batches()] == [334, 334, 333]


def test_another_epoch_starts_at_its_beginning_and_the_same_one_in_its_middle() -> None:
    order = TrainingOrder(40, 4, seed=0)
    order.set_epoch(2)
    order.start = 5
    order.set_epoch(2)
    assert (order.begin(), order.begin()) == (5, 0)
    order.start = 5
    order.set_epoch(3)
    assert order.begin() == 0


def test_an_epoch_without_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 training images give no batch"):
        TrainingOrder(3, 4, seed=0, drop_last=True)
