"""AUROC and average precision equal scikit-learn's, and their intervals cover what they should."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from vaezoo.metrics.detection import detect


def drawn(seed: int, normal: int = 300, anomalous: int = 60, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed)
    return noise.normal(0, 1, normal), noise.normal(shift, 1, anomalous)


@pytest.mark.parametrize("digits", [1, 9])
def test_both_equal_those_of_scikit_learn_also_with_equal_scores(digits: int) -> None:
    normal, anomalous = (part.round(digits) for part in drawn(0))
    flags, scores = np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])
    found = detect(normal, anomalous)
    assert found.auroc == pytest.approx(roc_auc_score(flags, scores), abs=1e-12)
    assert found.average_precision == pytest.approx(average_precision_score(flags, scores), abs=1e-12)
    assert (found.normal, found.anomalous) == (300, 60)


def test_known_values() -> None:
    perfect, worst, constant = detect([0, 1], [2, 3]), detect([2, 3], [0, 1]), detect([1, 1, 1], [1])
    assert (perfect.auroc, perfect.average_precision) == (1, 1)
    assert (worst.auroc, worst.average_precision) == (0, pytest.approx((1 / 3 + 2 / 4) / 2))
    assert (constant.auroc, constant.average_precision) == (0.5, 0.25)
    assert worst.is_reversed
    assert not constant.is_reversed


def test_intervals_have_the_width_of_the_statistic_over_new_images() -> None:
    """Of 200 data sets, the values differ as much as one interval is wide, 2 x 1.96 standard deviations."""
    values = np.array([detect(*drawn(seed), resamples=2).auroc for seed in range(200)])
    found = detect(*drawn(0))
    low, high = found.auroc_interval
    assert (high - low) / (2 * 1.96 * values.std()) == pytest.approx(1, abs=0.25)
    assert found.auroc_error / values.std() == pytest.approx(1, abs=0.25)


def test_the_same_seed_gives_the_same_interval() -> None:
    assert detect(*drawn(0)) == detect(*drawn(0))
    assert detect(*drawn(0)) != detect(*drawn(0), seed=1)


@pytest.mark.parametrize(("normal", "anomalous"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0])])
def test_scores_of_one_kind_or_that_are_not_finite_are_refused(normal: list[float], anomalous: list[float]) -> None:
    with pytest.raises(ValueError, match="needs finite scores of both"):
        detect(normal, anomalous)
