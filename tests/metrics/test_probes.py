"""Probes on codes whose labels can be told by construction, or not at all."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vaezoo.metrics import probes
from vaezoo.metrics.probes import FEW, Probe, few_label_probe, knn_probe, linear_probe

BOTH = pytest.mark.parametrize("probe", [linear_probe, knn_probe])
AnyProbe = Callable[..., Probe]


def clusters(count: int, classes: int = 4, *, seed: int = 0, spread: float = 0.1) -> tuple[Tensor, Tensor]:
    """Labels, and codes around one corner of the simplex for each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.eye(classes)[labels] + spread * torch.randn(count, classes, generator=generator), labels


@BOTH
def test_separable_codes_are_told_without_error(probe: AnyProbe) -> None:
    result = probe(*clusters(400), *clusters(100, seed=1))
    assert (result.value, result.standard_error) == (1, 0)
    assert (result.n_train, result.n_test) == (400, 100)
    assert result.of_factors == {}


@BOTH
def test_random_codes_are_told_by_chance(probe: AnyProbe) -> None:
    codes, labels = torch.randn(3000, 3), torch.arange(3000) % 5
    result = probe(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    assert result.standard_error == pytest.approx(math.sqrt(0.2 * 0.8 / 2000), rel=0.1)
    assert result.value == pytest.approx(0.2, abs=3 * result.standard_error)
    assert result.majority == pytest.approx(0.2)


@BOTH
def test_imbalanced_random_codes_are_told_as_well_as_by_the_majority(probe: AnyProbe) -> None:
    codes, labels = torch.randn(2000, 3), (torch.arange(2000) % 10 == 0).long() + 7
    result = probe(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    assert result.majority == pytest.approx(0.9)
    assert result.value == pytest.approx(0.9, abs=0.01)


@BOTH
def test_a_rare_class_is_told_where_it_can_be(probe: AnyProbe) -> None:
    labels = (torch.arange(1000) % 20 == 0).long()
    codes = labels[:, None] + 0.05 * torch.randn(1000, 2)
    assert probe(codes[:500], labels[:500], codes[500:], labels[500:]).value == 1


@BOTH
def test_a_single_label_is_the_answer_to_everything(probe: AnyProbe) -> None:
    codes = torch.randn(30, 2)
    ones = torch.full((30,), -1)
    assert probe(codes, ones, codes, ones).value == 1
    assert probe(codes, ones, codes, torch.arange(30) % 3 - 1).value == pytest.approx(1 / 3)


@BOTH
@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_fewer_codes_than_neighbours_are_enough(probe: AnyProbe, count: int) -> None:
    labels = (torch.arange(count) > 0).long()
    codes = labels[:, None] * torch.ones(count, 3)
    result = probe(codes, labels, codes, labels)
    assert result.n_train == count
    assert result.value >= result.majority - 1e-12


@BOTH
def test_a_label_that_training_lacks_is_a_wrong_answer(probe: AnyProbe) -> None:
    codes, labels = clusters(200, 2)
    assert probe(codes, labels, codes, torch.full_like(labels, 9)).value == 0


@BOTH
def test_each_factor_counts_once(probe: AnyProbe) -> None:
    """The first factor is in the codes; the second is not, and has two values."""
    codes, labels = clusters(3000)  # in random order
    factors = torch.stack([labels, torch.arange(3000) % 2], dim=1)
    result = probe(codes[:1000], factors[:1000], codes[1000:], factors[1000:], factors=("corner", "coin"))
    assert result.of_factors["corner"] == 1
    assert result.of_factors["coin"] == pytest.approx(0.5, abs=0.035)
    assert result.value == pytest.approx((1 + result.of_factors["coin"]) / 2)
    assert result.standard_error == pytest.approx(0.25 / math.sqrt(2000), rel=0.1)
    unnamed = probe(codes[:50], factors[:50], codes[50:60], factors[50:60])
    assert list(unnamed.of_factors) == ["0", "1"]


@BOTH
def test_the_limit_is_reported_and_the_seed_draws_what_is_left(probe: AnyProbe) -> None:
    codes, labels = clusters(300, spread=1.0)
    results = [probe(codes, labels, codes, labels, limit=80, seed=seed) for seed in (0, 0, 1)]
    assert (results[0].n_train, results[0].n_test) == (80, 80)
    assert results[0] == results[1] != results[2]


def test_the_linear_probe_sees_dimensions_of_any_scale_and_offset() -> None:
    train, labels = clusters(400)
    test, test_labels = clusters(200, seed=1)
    scale, offset = torch.tensor([1e-6, 1e-6, 1e3, 1.0]), torch.tensor([0.1, 0.0, -1e4, 9.0])
    plain, scaled = (
        linear_probe(train * factor + shift, labels, test * factor + shift, test_labels)
        for factor, shift in ((1.0, 0.0), (scale.double(), offset.double()))
    )
    assert plain == scaled


def test_a_dimension_that_never_moves_is_no_obstacle() -> None:
    train, labels = clusters(100)
    assert linear_probe(train * torch.tensor([1, 1, 1, 0]), labels, train, labels).value > 0.9


def test_a_linear_probe_cannot_tell_rings_and_neighbours_can() -> None:
    labels = torch.arange(1000) % 2
    angle = 2 * math.pi * torch.rand(1000)
    codes = (1.0 + labels)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    data = (codes[:500], labels[:500], codes[500:], labels[500:])
    assert linear_probe(*data).value < 0.65
    assert knn_probe(*data).value == 1  # of the same angle: a cosine could not either


def test_twenty_neighbours_vote() -> None:
    """Ten of one label are nearest, then thirty of another, which have half of twenty votes and half of twenty-one."""
    codes = torch.cat([torch.zeros(10, 1), torch.ones(30, 1)])
    labels = torch.tensor([1] * 10 + [0] * 30)
    here = (codes[:1] - 0.1, labels[:1])
    assert knn_probe(codes, labels, *here, neighbours=19).value == 1
    assert knn_probe(codes, labels, *here).value == 0  # a tie goes to the smaller label
    assert knn_probe(codes, labels, *here, neighbours=10).value == 1


def test_the_penalty_is_chosen_on_training_codes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 60 dimensions of noise for 80 codes a strong penalty is worth much; the test labels cannot tell it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2080) % 2
    codes = torch.randn(2080, 60, generator=generator)
    codes[:, 0] += 2 * labels
    data = (codes[:80], labels[:80], codes[80:], labels[80:])
    chosen = linear_probe(*data).value
    accuracies = []
    for strength in probes.INVERSE_STRENGTHS:
        monkeypatch.setattr(probes, "INVERSE_STRENGTHS", (strength,))
        accuracies.append(linear_probe(*data).value)
    assert chosen in accuracies
    assert min(accuracies) < chosen


def test_codes_and_labels_that_do_not_fit_are_refused() -> None:
    codes, labels = clusters(10)
    with pytest.raises(ValueError, match="got 10 codes and 9 labels"):
        linear_probe(codes, labels[:9], codes, labels)
    with pytest.raises(ValueError, match="got 0 codes and 0 labels"):
        knn_probe(codes[:0], labels[:0], codes, labels)
    with pytest.raises(ValueError, match="same dimensions"):
        knn_probe(codes, labels, codes[:, :2], labels)


def test_few_labels_are_a_mean_of_linear_probes_on_draws_of_a_hundred() -> None:
    train, test = clusters(1000, spread=0.6), clusters(4000, seed=1, spread=0.6)
    found = few_label_probe(*train, *test)
    assert (found.n_train, found.n_test) == (FEW, 4000) == (100, 4000)
    other = [linear_probe(train[0][at : at + 100], train[1][at : at + 100], *test).value for at in range(0, 1000, 100)]
    assert found.value == pytest.approx(sum(other) / 10, abs=3 * found.standard_error)
    assert found.value < linear_probe(*train, *test).value
    assert found.standard_error > linear_probe(*train, *test).standard_error
    assert found == few_label_probe(*train, *test) != few_label_probe(*train, *test, seed=1)


def test_few_labels_have_draws_and_factors_of_their_own() -> None:
    codes, labels = clusters(2000)
    factors = torch.stack([labels, torch.arange(2000) % 2], dim=1)
    found = few_label_probe(codes, factors, codes, factors, factors=("corner", "coin"))
    assert found.of_factors["corner"] == 1
    assert found.value == pytest.approx((1 + found.of_factors["coin"]) / 2)
    with pytest.raises(ValueError, match="needs at least 100 training codes, got 99"):
        few_label_probe(codes[:99], labels[:99], codes, labels)
