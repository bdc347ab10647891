"""How well labels can be told from codes, by a linear classifier and by neighbours. They know tensors alone.

Labels are whole numbers, (N,) or one column a factor, (N, F). Codes are those of encoder means. An accuracy says little
without what can be had for nothing: ``Probe.majority``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LIMIT = 10_000
"""Most training codes, and most test codes, that are used."""

INVERSE_STRENGTHS = (1.0, 0.1, 10.0, 0.01, 100.0, 0.001)
"""What the linear probe's ``C``, one over the weight of its L2 penalty, is chosen from; of equals the first."""

NEIGHBOURS = 20


@dataclass(frozen=True)
class Probe:
    """Accuracy on test codes, as a share; with several factors, the mean over them.

    ``majority`` is the accuracy of answering the training codes' most frequent label always. ``standard_error`` is that
    of a finite test set alone. ``of_factors`` has the accuracy of each factor by its name; empty for one unnamed.
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

    Codes are standardised as the training ones are. The L2 penalty is the one of ``INVERSE_STRENGTHS`` that is best on
    a fifth of the training codes, and the regression is then fitted to all of them. A single label needs no regression:
    it is the answer to everything.

    Args:
        seed: draws that fifth, and the codes that are used where there are more than ``limit``.
        limit: most training codes, and most test codes.
        factors: names of the label columns, "0", "1", ... without.

    Raises:
        ValueError: there are no codes, or codes and labels do not fit together.
    """
    from threadpoolctl import threadpool_limits

    train, test = _samples(train_codes, train_labels, test_codes, test_labels, seed=seed, limit=limit)
    location, scale = train.codes.mean(0), train.codes.std(0)
    scale[scale == 0] = 1  # a dead dimension stays at 0
    standardised = [(part.codes - location) / scale for part in (train, test)]
    order = np.random.default_rng(seed).permutation(len(train.codes))
    with threadpool_limits(1):  # on matrices this small, threads that wait for each other cost up to 50 times the work
        columns = [_regress(standardised[0], labels, standardised[1], order) for labels in train.labels.T]
    return _probe(np.stack(columns, axis=1), train, test, factors)


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
    """Accuracy of the majority among the nearest training codes, or among all if there are fewer than ``neighbours``.

    Nearest in Euclidean distance between codes as they are: in one or two dimensions, where clusters lie behind each
    other, an angle could not tell them apart, and standardising would blow up the dimensions that a VAE does not use.
    The other arguments and errors are those of ``linear_probe``.
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
    """Labels of the test codes."""
    predicted: NDArray[np.int64] = _classifier(train, labels, _strength(train, labels, order)).predict(test)
    return predicted


def _strength(codes: NDArray[np.float64], labels: NDArray[np.int64], order: NDArray[np.int64]) -> float:
    """The inverse strength that is best on the first fifth of ``order``, fitted to the rest."""
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
