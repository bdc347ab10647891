"""How well a score tells anomalies from normal images: AUROC and average precision with bootstrap intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vaezoo.metrics.generation import Array

RESAMPLES = 500
"""Bootstrap samples of an interval."""

AT_ONCE = 2**22
"""Maximum number of weights in memory at once."""

LEVEL = 0.05

Interval = tuple[float, float]


@dataclass(frozen=True)
class Detection:
    """AUROC and average precision in [0, 1] with 95% intervals, the standard error of the first, and numbers of images.

    By chance, AUROC is 0.5, and average precision the share of anomalies.
    """

    auroc: float
    auroc_interval: Interval
    auroc_error: float
    average_precision: float
    average_precision_interval: Interval
    normal: int
    anomalous: int

    @property
    def is_reversed(self) -> bool:
        """Whether anomalies have lower scores than normal images beyond chance."""
        return self.auroc_interval[1] < 0.5


def detect(normal: Array, anomalous: Array, *, seed: int = 0, resamples: int = RESAMPLES) -> Detection:
    """How well scores (N,) of normal images and (M,) of anomalies, which should be higher, are told apart.

    Intervals are percentiles of a bootstrap over the images of each kind, with ``seed``. ValueError without scores of
    both, or if some are not finite.
    """
    values = [np.asarray(part, dtype=np.float64) for part in (normal, anomalous)]
    if not all(len(part) and np.isfinite(part).all() for part in values):
        raise ValueError(f"needs finite scores of both, got {len(values[0])} normal and {len(values[1])} anomalous")
    levels, places = np.unique(-np.concatenate(values), return_inverse=True)
    of_normal, of_anomalous = places[: len(values[0])], places[len(values[0]) :]
    whole = _curves(*(np.bincount(part, minlength=len(levels))[None] for part in (of_normal, of_anomalous)))
    drawn = np.concatenate(
        [_curves(*counts) for counts in _resampled(of_normal, of_anomalous, len(levels), seed, resamples)]
    )
    low, high = np.quantile(drawn, (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    intervals = [(float(low[at]), float(high[at])) for at in range(2)]
    auroc, precision = map(float, whole[0])
    error = float(drawn[:, 0].std())
    return Detection(auroc, intervals[0], error, precision, intervals[1], len(values[0]), len(values[1]))


def _resampled(
    normal: NDArray[np.int64], anomalous: NDArray[np.int64], levels: int, seed: int, resamples: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """How often bootstrap samples of each kind have each level, (R, levels) each, a few samples at a time."""
    noise, at_once = np.random.default_rng(seed), max(1, AT_ONCE // levels)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        yield _counts(noise, normal, levels, count), _counts(noise, anomalous, levels, count)


def _counts(noise: np.random.Generator, places: NDArray[np.int64], levels: int, count: int) -> NDArray[np.int64]:
    drawn = [places[noise.integers(0, len(places), len(places))] for _ in range(count)]
    return np.stack([np.bincount(each, minlength=levels) for each in drawn])


def _curves(normal: NDArray[np.int64], anomalous: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUROC and average precision, (R, 2), from the numbers of images at each level, highest scores first: (R, G).

    As scikit-learn's ``roc_auc_score`` and ``average_precision_score``: the area by trapezoids, so that equal scores
    count a half, and the mean of the precision over steps of the recall.
    """
    false, true = normal.cumsum(1), anomalous.cumsum(1)
    found = false + true
    precision = true / np.maximum(found, 1)
    before = true - anomalous
    area = (normal * (before + true)).sum(1) / (2 * true[:, -1] * false[:, -1])
    return np.stack([area, (anomalous * precision).sum(1) / true[:, -1]], 1)
