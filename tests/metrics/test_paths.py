"""Paths whose steps can be counted by hand."""

import math

import pytest
import torch

from vaezoo.metrics.paths import choose_pairs, path_speed, step_lengths, step_ratio


def line(*positions: float) -> torch.Tensor:
    """One path of images (1, 2, 2) along the direction (1, 1, 1, 1), which has length 2."""
    return torch.tensor(positions, dtype=torch.float32).view(1, -1, 1, 1, 1).expand(-1, -1, 1, 2, 2)


def test_steps_are_measured_in_the_l2_norm_over_all_pixels() -> None:
    assert step_lengths(line(0, 1, 4)).tolist() == [[2, 6]]


def test_an_even_pace_has_ratio_one_and_a_single_jump_all_the_steps() -> None:
    assert step_ratio(line(0, 1, 2, 3)).item() == pytest.approx(1)
    assert step_ratio(line(0, 0, 0, 1, 1)).item() == pytest.approx(4)
    assert step_ratio(line(0, 1, 4)).item() == pytest.approx(1.5)


def test_the_speed_is_relative_to_its_mean_path_by_path() -> None:
    paths = torch.cat([line(0, 1, 4), 100 * line(0, 3, 4)])
    torch.testing.assert_close(path_speed(paths), torch.tensor([[0.5, 1.5], [1.5, 0.5]], dtype=torch.float64))


def test_features_are_paths_as_well() -> None:
    quarter = torch.linspace(0, math.pi / 2, 1001)
    circle = torch.stack([quarter.cos(), quarter.sin()], dim=1)[None]
    assert step_ratio(circle).item() == pytest.approx(1, abs=1e-3)


def test_a_path_that_stays_is_even_with_rounding() -> None:
    still = torch.rand(1, 1, 1, 28, 28).repeat(1, 9, 1, 1, 1)
    rounding = still * (1 + torch.finfo(torch.float32).eps * torch.randint(0, 2, still.shape))
    for path in (still, rounding, torch.zeros(1, 5, 3)):
        assert step_ratio(path).item() == 1
        assert (path_speed(path) == 1).all()


def test_a_small_motion_is_still_a_motion() -> None:
    assert step_ratio(1e-3 * line(0, 0, 1) + 1).item() == pytest.approx(2, rel=1e-3)


def test_a_still_path_does_not_touch_the_others() -> None:
    assert step_ratio(torch.cat([line(1, 1, 1), line(0, 1, 4)])).tolist() == pytest.approx([1, 1.5])


@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 3)])
def test_what_is_no_path_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="T of at least 2"):
        step_ratio(torch.zeros(shape))


def test_pairs_are_of_different_labels_while_there_are_any() -> None:
    labels = torch.arange(10).repeat_interleave(20)
    pairs = choose_pairs(labels, 30, seed=0)
    assert all(labels[first] != labels[second] for first, second in pairs)
    assert len(pairs) == 30
    assert len({position for pair in pairs for position in pair}) == 60


def test_pairs_come_in_order_without_a_seed_and_shuffled_with_one() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert choose_pairs(labels, 3) == [(0, 3), (1, 4), (2, 5)]
    many = torch.arange(100)
    assert choose_pairs(many, 5, seed=3) == choose_pairs(many, 5, seed=3)
    assert len({tuple(choose_pairs(many, 5, seed=seed)) for seed in range(5)}) == 5


def test_pairs_of_one_label_of_factors_and_of_too_few_images() -> None:
    assert choose_pairs(torch.full((5,), -1), 4) == [(0, 1), (2, 3)]
    assert choose_pairs(torch.tensor([[0, 1], [0, 1], [0, 2]]), 1) == [(0, 2)]
    assert choose_pairs(torch.tensor([3]), 2, seed=0) == []


def test_pairs_leave_the_global_random_state() -> None:
    state = torch.get_rng_state()
    choose_pairs(torch.arange(9), 2, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
