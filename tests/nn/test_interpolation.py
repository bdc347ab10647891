"""Paths between codes start and end where they should, and stay where they should in between."""

import math

import pytest
import torch

from vaezoo.nn.interpolation import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_path_has_both_codes_at_its_ends(method: str) -> None:
    start, end = torch.randn(6, 5), torch.randn(6, 5)
    path = METHODS[method](start, end, 7)
    assert path.shape == (6, 7, 5)
    torch.testing.assert_close(path[:, 0], start)
    torch.testing.assert_close(path[:, -1], end)


@pytest.mark.parametrize("method", METHODS)
def test_codes_in_double_precision_have_a_path_in_double_precision(method: str) -> None:
    assert METHODS[method](torch.randn(2, 3).double(), torch.randn(2, 3).double(), 4).dtype == torch.float64


def test_the_linear_path_has_equal_steps_on_the_line() -> None:
    path = METHODS["linear"](torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0, 5.0]]), 5)
    assert path[0].tolist() == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]


def test_the_spherical_path_stays_on_the_circle_at_equal_angles() -> None:
    path = METHODS["spherical"](torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 4)[0]
    torch.testing.assert_close(path.norm(dim=1), torch.full((4,), 2.0))
    angles = torch.atan2(path[:, 1], path[:, 0])
    torch.testing.assert_close(angles.diff(), torch.full((3,), math.pi / 6))


@pytest.mark.parametrize("end", [[3.0, 0.0], [-3.0, 0.0], [0.0, 0.0]])
def test_without_an_arc_the_spherical_path_is_the_straight_one(end: list[float]) -> None:
    start = torch.tensor([[1.0, 0.0]])
    spherical = METHODS["spherical"](start, torch.tensor([end]), 5)
    if end == [0.0, 0.0]:  # a code at the origin has no direction, and cosine 0
        assert torch.isfinite(spherical).all()
    else:
        torch.testing.assert_close(spherical, METHODS["linear"](start, torch.tensor([end]), 5))
