"""Disentanglement scores from predicting factors: SAP and DCI. Arrays in, numbers out; nothing of models.

Definitions and defaults as in Locatello et al. (2019). Classifiers are fitted to training images and scored on others.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaezoo.config.errors import DataError
from vaezoo.metrics.disentanglement.information import lead
from vaezoo.metrics.disentanglement.samplers import EncodedImages

ALMOST_NOTHING = 1e-11
"""Added to every importance, so that a dimension without any has an even share of nothing and an entropy."""

MACHINE = "LinearSVC(C=0.01, class_weight='balanced')"
TREES = "GradientBoostingClassifier(n_estimators=100, max_depth=3)"

SEEDS = 2**31


def sap_scores(train: EncodedImages, test: EncodedImages) -> NDArray[np.float64]:
    """Test accuracy of a linear support vector machine that sees one code dimension, for each factor: (D, F).

    One such machine cannot tell dozens of ordered classes apart, so a perfect code of sprites scores low. It depends on
    the scale of the codes, too.
    """
    from sklearn.svm import LinearSVC

    def accuracy(dimension: int, factor: int) -> float:
        column = slice(dimension, dimension + 1)
        machine = LinearSVC(C=0.01, class_weight="balanced", dual=False, random_state=0)  # nothing random
        machine.fit(train.codes[:, column], train.classes[:, factor])
        return float(machine.score(test.codes[:, column], test.classes[:, factor]))

    return np.array([[accuracy(d, f) for f in range(train.factor_count)] for d in range(train.codes.shape[1])])


def sap_from_scores(scores: ArrayLike) -> float:
    """Separated attribute predictability (Kumar et al., 2018): the lead of each factor's best dimension."""
    return float(lead(np.asarray(scores, np.float64), "SAP").mean())


def boosted_importance(
    train: EncodedImages, test: EncodedImages, *, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much each dimension helps to predict each factor (D, F), each column of sum 1, and the test accuracy (F,).

    One classifier for each factor: 100 rounds of trees of depth 3, a tree for each class in every round. The time goes
    with the number of images times the sum of the factors' numbers of classes, and with fewer images importance is more
    even, so that disentanglement and completeness are lower. DCI's informativeness is the mean of the
    accuracies, 1 the best, where Eastwood and Williams (2018) report an error.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    importance, accuracy = [], []
    for learned, asked in zip(train.classes.T, test.classes.T, strict=True):
        trees = GradientBoostingClassifier(n_estimators=100, max_depth=3, random_state=int(generator.integers(SEEDS)))
        trees.fit(train.codes, learned)
        importance.append(trees.feature_importances_)
        accuracy.append(trees.score(test.codes, asked))
    return np.stack(importance, axis=1), np.array(accuracy)


def dci_from_importance(importance: ArrayLike) -> tuple[float, float]:
    """Disentanglement and completeness of an importance matrix, no entry negative: (D, F) -> two numbers in [0, 1].

    Eastwood and Williams (2018): a dimension is disentangled that matters to one factor only, and a factor is complete
    to which one dimension matters only. Both are one minus an entropy relative to its greatest value, averaged with the
    importance as the weight.
    """
    matrix = np.asarray(importance, np.float64)
    if min(matrix.shape) < 2:
        shape = "{} and {}".format(*matrix.shape)
        raise DataError(f"DCI needs at least 2 latent dimensions and 2 factors that vary, got {shape}")
    if matrix.sum() == 0:
        matrix = np.ones_like(matrix)
    return _concentration(matrix), _concentration(matrix.T)


def _concentration(matrix: NDArray[np.float64]) -> float:
    """How uneven the rows are, weighed by their sums: 1 where each has a single entry, 0 where all are even."""
    shares = matrix + ALMOST_NOTHING
    shares = shares / shares.sum(1, keepdims=True)
    evenness = -(shares * np.log(shares)).sum(1) / np.log(matrix.shape[1])
    return float(np.average(1 - evenness, weights=matrix.sum(1)))
