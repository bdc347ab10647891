"""The order of images: which batches each process sees, in every epoch and from its middle."""

import pytest
import torch

from vaezoo.data.order import EpochOrder, EvaluationOrder, TrainingOrder
from vaezoo.errors import ConfigError


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


def test_global_batch_is_the_same_on_one_device_and_on_four() -> None:
    alone = TrainingOrder(64, 16, seed=0).batches()
    shares = [TrainingOrder(64, 16, seed=0, rank=rank, world_size=4).batches() for rank in range(4)]
    for number, batch in enumerate(alone):
        assert torch.equal(torch.cat([share[number] for share in shares]), batch)


def test_training_shares_are_equal_even_of_a_short_last_batch() -> None:
    orders = [TrainingOrder(23, 8, seed=0, rank=rank, world_size=4) for rank in range(4)]
    sizes = [[len(batch) for batch in order.batches()] for order in orders]
    assert sizes == [[2, 2, 1]] * 4  # 23 = 8 + 8 + 7, and 7 shared by 4 leaves 3 for another epoch
    assert [len(order) for order in orders] == [3] * 4


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 1]), (True, [4, 4])])
def test_last_training_batch_is_short_or_dropped(drop_last: bool, sizes: list[int]) -> None:
    order = TrainingOrder(9, 4, seed=0, drop_last=drop_last)
    assert [len(batch) for batch in order.batches()] == sizes
    assert len(order) == len(sizes)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 8, 100, 101])
@pytest.mark.parametrize("batch_size", [1, 3, 50, 1000])
def test_evaluation_sees_every_image_exactly_once_over_uneven_shares(
    count: int, world_size: int, batch_size: int
) -> None:
    orders = [EvaluationOrder(count, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(position for order in orders for position in seen(order)) == list(range(count))
    assert len({len(order) for order in orders}) == 1
    for order in orders:
        sizes = [len(batch) for batch in order.batches()]
        assert len(sizes) == len(order)
        assert min(sizes) >= 1


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


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=10 cannot be shared equally by 4 devices"):
        TrainingOrder(100, 10, seed=0, world_size=4)
    with pytest.raises(ConfigError, match="3 training images give no batch"):
        TrainingOrder(3, 4, seed=0, drop_last=True)
    with pytest.raises(ConfigError, match="2 images cannot be evaluated on 3 devices"):
        EvaluationOrder(2, 1, world_size=3)
