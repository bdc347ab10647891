"""Accuracy of predicting labels from codes, by logistic regression and by nearest neighbours.

Labels are integers, (N,) or one column per factor, (N, F). Codes are posterior means. Compare an accuracy with that of
the most frequent label, ``Probe.majority``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LIMIT = 10_000
"""Maximum number of training codes, and of test codes."""

INVERSE_STRENGTHS = (1.0, 0.1, 10.0, 0.01, 100.0, 0.001)
"""Candidates for ``C``, the inverse weight of the linear probe's L2 penalty; the first of equally good ones wins."""

NEIGHBOURS = 20

FEW, DRAWS = 100, 5
"""Number of labelled images of ``few_label_probe``, and of its draws."""


@dataclass(frozen=True)
class Probe:
    """Accuracy on test codes, in [0, 1]; with several factors, the mean over them.

    ``majority`` is the accuracy of always predicting the most frequent training label. ``standard_error`` covers the
    finite test set only. ``of_factors`` is the accuracy of each factor by name; empty for a single unnamed factor.
    """

    value: float
    standard_error: float
    majority: float
    n_train: int
    n_test: int
    of_factors: dict[str, float]


def linear_probe(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    seed: int = 0,
    limit: int = LIMIT,
    factors: Sequence[str] | None = None,
) -> Probe:
    """Accuracy of multinomial logistic regression from codes (N, D) to labels (N,) or (N, F).

    Codes are standardised by the training codes' mean and standard deviation. The L2 penalty is chosen from
    ``INVERSE_STRENGTHS`` on a fifth of the training codes, and the regression is then fitted to all of them. If there
    is a single label, it is always predicted.

    Args:
        seed: draws that fifth, and the codes to use if there are more than ``limit``.
        limit: maximum number of training codes, and of test codes.
        factors: names of the label columns; by default "0", "1", ...

    Raises:
        ValueError: there are no codes, or the shapes of codes and labels do not match.
    """
    from threadpoolctl import threadpool_limits

    train, test = _samples(train_codes, train_labels, test_codes, test_labels, seed=seed, limit=limit)
    location, scale = train.codes.mean(0), train.codes.std(0)
    scale[scale == 0] = 1  # a constant dimension becomes 0
    standardised = [(part.codes - location) / scale for part in (train, test)]
    order = np.random.default_rng(seed).permutation(len(train.codes))
    with threadpool_limits(1):  # on small matrices, waiting threads can take 50 times as long as the work
        columns = [_regress(standardised[0], labels, standardised[1], order) for labels in train.labels.T]
    return _probe(np.stack(columns, axis=1), train, test, factors)


def few_label_probe(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    seed: int = 0,
    factors: Sequence[str] | None = None,
) -> Probe:
    """The linear probe fitted to ``FEW`` training codes, mean over ``DRAWS`` such draws without replacement.

    ``standard_error`` covers the draws and the finite test set. Other arguments and errors as for ``linear_probe``;
    ValueError also with fewer than ``FEW`` training codes.
    """
    if len(train_codes) < FEW:
        raise ValueError(f"needs at least {FEW} training codes, got {len(train_codes)}")
    found = []
    for draw in range(DRAWS):
        kept = np.random.default_rng((seed, draw)).permutation(len(train_codes))[:FEW]
        some = (train_codes[kept], train_labels[kept])
        found.append(linear_probe(*some, test_codes, test_labels, seed=seed, factors=factors))
    values = np.array([probe.value for probe in found])
    of_images = np.mean([probe.standard_error for probe in found])
    return Probe(
        value=float(values.mean()),
        standard_error=float(np.sqrt(of_images**2 + values.var(ddof=1) / DRAWS)),
        majority=float(np.mean([probe.majority for probe in found])),
        n_train=FEW,
        n_test=found[0].n_test,
        of_factors={name: float(np.mean([probe.of_factors[name] for probe in found])) for name in found[0].of_factors},
    )


def knn_probe(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    seed: int = 0,
    limit: int = LIMIT,
    neighbours: int = NEIGHBOURS,
    factors: Sequence[str] | None = None,
) -> Probe:
    """Accuracy of a majority vote of the ``neighbours`` nearest training codes (all of them if there are fewer).

    Uses Euclidean distances of unscaled codes: in one or two dimensions, angles cannot separate clusters that lie
    behind each other, and standardising would amplify the dimensions that a VAE does not use. Other arguments and
    errors as for ``linear_probe``.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, test = _samples(train_codes, train_labels, test_codes, test_labels, seed=seed, limit=limit)
    classifier = KNeighborsClassifier(min(neighbours, len(train.codes)), algorithm="brute")
    labels = train.labels if train.labels.shape[1] > 1 else train.labels[:, 0]
    predicted = classifier.fit(train.codes, labels).predict(test.codes)
    return _probe(predicted.reshape(test.labels.shape), train, test, factors)


@dataclass(frozen=True)
class _Sample:
    codes: NDArray[np.float64]
    labels: NDArray[np.int64]


def _samples(
    train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor, *, seed: int, limit: int
) -> tuple[_Sample, _Sample]:
    train = _sample(train_codes, train_labels, seed, limit)
    test = _sample(test_codes, test_labels, seed, limit)
    if train.labels.shape[1] != test.labels.shape[1] or train.codes.shape[1] != test.codes.shape[1]:
        raise ValueError("training and test codes must have the same dimensions and the same factors")
    return train, test


def _sample(codes: Tensor, labels: Tensor, seed: int, limit: int) -> _Sample:
    """At most ``limit`` codes (N, D), drawn with ``seed``, with their labels (N, F)."""
    if len(codes) != len(labels) or len(codes) == 0:
        raise ValueError(f"needs codes, and a label for each, got {len(codes)} codes and {len(labels)} labels")
    kept = np.sort(np.random.default_rng(seed).permutation(len(codes))[:limit])
    values, names = codes.detach().cpu().double().numpy(), labels.cpu().long().numpy()
    return _Sample(values[kept], names.reshape(len(names), -1)[kept])


def _regress(
    train: NDArray[np.float64], labels: NDArray[np.int64], test: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Predicted labels of the test codes."""
    predicted: NDArray[np.int64] = _classifier(train, labels, _strength(train, labels, order)).predict(test)
    return predicted


def _strength(codes: NDArray[np.float64], labels: NDArray[np.int64], order: NDArray[np.int64]) -> float:
    """The best inverse strength on the first fifth of ``order``, fitted to the rest."""
    held_out, kept = np.split(order, [len(order) // 5])
    if len(held_out) == 0:
        return INVERSE_STRENGTHS[0]
    correct = [
        (_classifier(codes[kept], labels[kept], strength).predict(codes[held_out]) == labels[held_out]).sum()
        for strength in INVERSE_STRENGTHS
    ]
    return INVERSE_STRENGTHS[int(np.argmax(correct))]


def _classifier(codes: NDArray[np.float64], labels: NDArray[np.int64], strength: float) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    several = len(np.unique(labels)) > 1
    classifier = LogisticRegression(C=strength, max_iter=1000) if several else DummyClassifier()
    return classifier.fit(codes, labels)


def _probe(predicted: NDArray[np.int64], train: _Sample, test: _Sample, factors: Sequence[str] | None) -> Probe:
    """Accuracies of predicted labels (N, F)."""
    correct = predicted == test.labels
    frequent = np.array([np.bincount(labels - labels.min()).argmax() + labels.min() for labels in train.labels.T])
    count = correct.shape[1]
    names = list(factors) if factors else [str(number) for number in range(count)]
    of_factors = dict(zip(names, correct.mean(0).tolist(), strict=True)) if count > 1 or factors else {}
    of_images = correct.mean(1)
    return Probe(
        value=float(of_images.mean()),
        standard_error=float(of_images.std() / np.sqrt(len(of_images))),
        majority=float((test.labels == frequent).mean()),
        n_train=len(train.codes),
        n_test=len(test.codes),
        of_factors=of_factors,
    )
