"""Schedules depend on the step alone."""

import pytest

from vaezoo.config.errors import ConfigError
from vaezoo.training.weight_schedules import fraction


def test_constant_is_always_full() -> None:
    assert [fraction("constant", step, 10) for step in (0, 5, 50)] == [1, 1, 1]


def test_linear_rises_once_and_stays() -> None:
    assert [fraction("linear", step, 10) for step in (0, 5, 10, 50)] == [0, 0.5, 1, 1]


def test_cyclic_rises_in_the_first_half_of_every_cycle() -> None:
    assert [fraction("cyclic", step, 8) for step in (0, 2, 4, 7, 8, 10, 12)] == [0, 0.5, 1, 1, 0, 0.5, 1]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of constant, linear, cyclic, got 'cosine'"):
        fraction("cosine", 0, 10)
