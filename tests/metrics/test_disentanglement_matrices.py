"""Scores that are functions of a matrix, against values worked out by hand; matrices are [codes, factors]."""

import math

import numpy as np
import pytest

from vaezoo.config.errors import DataError
from vaezoo.metrics.disentanglement import (
    dci_from_importance,
    discretize,
    entropies,
    mig_from_mutual_information,
    modularity_from_mutual_information,
    mutual_information_matrix,
    sap_from_scores,
)

A = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.0, 0.0, 0.5], [0.1, 0.2, 0.2]])
EYE = np.eye(5)
EVERY_FACTOR_TWICE = 1 - math.log(2) / math.log(10)


@pytest.mark.parametrize(
    ("importance", "disentanglement", "completeness"),
    [
        (5 * EYE, 1, 1),
        (np.vstack([EYE, EYE]), 1, EVERY_FACTOR_TWICE),
        (np.hstack([EYE, EYE]), EVERY_FACTOR_TWICE, 1),
        (A, 0.4156846, 0.3702743),
        (np.ones((4, 3)), 0, 0),
        (np.zeros((4, 3)), 0, 0),
    ],
    ids=["identity", "two codes a factor", "two factors a code", "by hand", "even", "nothing"],
)
def test_dci_of_an_importance_matrix(importance: np.ndarray, disentanglement: float, completeness: float) -> None:
    assert dci_from_importance(importance) == pytest.approx((disentanglement, completeness), abs=1e-7)


def test_dci_weighs_a_dimension_by_its_importance() -> None:
    uneven = np.array([[9.0, 0.0], [0.5, 0.5]])  # nine tenths of all importance are disentangled, one tenth not at all
    assert dci_from_importance(uneven)[0] == pytest.approx(0.9, abs=1e-6)


def test_modularity_of_a_matrix_and_that_a_dead_dimension_counts_zero() -> None:
    assert modularity_from_mutual_information(A) == pytest.approx(0.8012153, abs=1e-7)
    assert modularity_from_mutual_information(np.vstack([A, np.zeros(3)])) == pytest.approx(0.6409722, abs=1e-7)
    assert modularity_from_mutual_information(np.zeros((2, 3))) == 0
    assert modularity_from_mutual_information(np.ones((2, 3))) == 0


def test_sap_is_the_mean_lead_of_the_best_dimension() -> None:
    assert sap_from_scores(A) == pytest.approx(0.4333333, abs=1e-7)  # (.7 + .4 + .2) / 3


def test_mig_is_the_mean_lead_as_a_share_of_the_entropy() -> None:
    assert mig_from_mutual_information(A, [1.0, 1.0, 1.0]) == pytest.approx(0.4333333, abs=1e-7)
    assert mig_from_mutual_information(A, [1.4, 0.8, 0.4]) == pytest.approx((0.5 + 0.5 + 0.5) / 3)


def test_bins_have_equal_width_over_the_range_of_each_dimension() -> None:
    column = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert discretize(column[:, None], bins=3)[:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    both = discretize(np.stack([column, -100 * column], axis=1), bins=3)
    assert both.T.tolist() == [[1, 1, 2, 2, 3, 3], [3, 3, 2, 2, 1, 1]]


def test_integer_codes_have_the_bins_of_equal_real_ones() -> None:
    codes = np.arange(40)[:, None]
    assert discretize(codes).tolist() == discretize(codes.astype(float)).tolist()
    assert np.unique(discretize(codes)).tolist() == list(range(1, 21))


def test_codes_of_half_precision_are_binned_in_full_precision() -> None:
    codes = np.random.default_rng(0).normal(size=(5000, 1)).astype(np.float16)
    assert discretize(codes, bins=100).tolist() == discretize(codes.astype(np.float64), bins=100).tolist()


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e30])
def test_a_constant_dimension_has_one_bin_and_no_information(scale: float) -> None:
    codes = np.full((60, 1), scale)
    assert len(np.unique(discretize(codes))) == 1
    assert mutual_information_matrix(codes, np.arange(60)[:, None] % 3).item() == 0


def test_entropies_and_information_are_in_nats() -> None:
    classes = np.stack([np.arange(60) % 3, np.arange(60) // 30], axis=1)
    assert entropies(classes) == pytest.approx([math.log(3), math.log(2)])
    information = mutual_information_matrix(classes, classes)
    assert information == pytest.approx(np.diag([math.log(3), math.log(2)]), abs=1e-12)


def test_information_of_noise_has_the_bias_that_its_docstring_tells() -> None:
    generator = np.random.default_rng(0)
    codes, classes = generator.uniform(size=(5000, 20)), generator.integers(40, size=(5000, 1))
    assert mutual_information_matrix(codes, classes).mean() == pytest.approx(19 * 39 / (2 * 5000), rel=0.1)


def test_scores_that_compare_two_need_two() -> None:
    with pytest.raises(DataError, match="MIG compares the two best latent dimensions, but there is only 1"):
        mig_from_mutual_information(A[:1], [1, 1, 1])
    with pytest.raises(DataError, match="SAP compares"):
        sap_from_scores(A[:1])
    with pytest.raises(DataError, match="at least 2 factors that vary, got 1"):
        modularity_from_mutual_information(A[:, :1])
    with pytest.raises(DataError, match="got 1 and 3"):
        dci_from_importance(A[:1])
    with pytest.raises(DataError, match="got 4 and 1"):
        dci_from_importance(A[:, :1])


def test_mig_refuses_a_constant_factor() -> None:
    with pytest.raises(DataError, match="constant"):
        mig_from_mutual_information(A, [1, 0, 1])
