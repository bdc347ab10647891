"""Disentanglement scores from predicting factors: SAP and DCI.

Definitions and defaults as in Locatello et al. (2019). Classifiers are fitted to training and scored on test images.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaezoo.config.errors import DataError
from vaezoo.metrics.disentanglement.information import lead
from vaezoo.metrics.disentanglement.samplers import EncodedImages

ALMOST_NOTHING = 1e-11
"""Added to every importance, so that the entropy of a dimension without any importance is defined."""

MACHINE = "LinearSVC(C=0.01, class_weight='balanced')"
TREES = "GradientBoostingClassifier(n_estimators=100, max_depth=3)"

SEEDS = 2**31


def sap_scores(train: EncodedImages, test: EncodedImages) -> NDArray[np.float64]:
    """Test accuracy of a linear support vector machine on each single code dimension, for each factor: (D, F).

    A linear SVM on one dimension cannot separate dozens of ordered classes, so a perfect code of sprites scores low.
    The score depends on the scale of the codes.
    """
    from sklearn.svm import LinearSVC

    def accuracy(dimension: int, factor: int) -> float:
        column = slice(dimension, dimension + 1)
        machine = LinearSVC(C=0.01, class_weight="balanced", dual=False, random_state=0)  # nothing random
        machine.fit(train.codes[:, column], train.classes[:, factor])
        return float(machine.score(test.codes[:, column], test.classes[:, factor]))

    return np.array([[accuracy(d, f) for f in range(train.factor_count)] for d in range(train.codes.shape[1])])


def sap_from_scores(scores: ArrayLike) -> float:
    """Separated attribute predictability (Kumar et al., 2018): (D, F) -> the mean lead of each factor's best dimension.

    DataError for fewer than 2 dimensions.
    """
    return float(lead(np.asarray(scores, np.float64), "SAP").mean())


def boosted_importance(
    train: EncodedImages, test: EncodedImages, *, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Importance of each dimension for predicting each factor (D, F), columns summing to 1, and test accuracy (F,).

    One gradient-boosted classifier per factor, with 100 rounds of one tree of depth 3 per class. The time is
    proportional to the number of images times the total number of classes. With fewer images, importance is more even,
    so disentanglement and completeness are lower. DCI's informativeness is the mean accuracy, where Eastwood and
    Williams (2018) report an error.
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
    """Disentanglement and completeness of a non-negative importance matrix: (D, F) -> two numbers in [0, 1].

    Eastwood and Williams (2018): disentanglement is 1 if each dimension matters to one factor only, completeness if
    each factor depends on one dimension only. Both are one minus a normalised entropy, averaged with importance as the
    weight. DataError for fewer than 2 dimensions or factors.
    """
    matrix = np.asarray(importance, np.float64)
    if min(matrix.shape) < 2:
        shape = "{} and {}".format(*matrix.shape)
        raise DataError(f"DCI needs at least 2 latent dimensions and 2 factors that vary, got {shape}")
    if matrix.sum() == 0:
        matrix = np.ones_like(matrix)
    return _concentration(matrix), _concentration(matrix.T)


def _concentration(matrix: NDArray[np.float64]) -> float:
    """One minus the normalised entropy of each row, averaged by row sums: 1 for single entries, 0 for even rows."""
    shares = matrix + ALMOST_NOTHING
    shares = shares / shares.sum(1, keepdims=True)
    evenness = -(shares * np.log(shares)).sum(1) / np.log(matrix.shape[1])
    return float(np.average(1 - evenness, weights=matrix.sum(1)))
