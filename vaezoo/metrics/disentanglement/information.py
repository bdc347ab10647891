"""Disentanglement scores from mutual information: MIG and modularity.

Definitions and defaults as in Locatello et al. (2019): plug-in estimates, in nats, between a factor's classes and a
code dimension in bins of equal width.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaezoo.config.errors import DataError

BINS = 20


def discretize(codes: ArrayLike, bins: int = BINS) -> NDArray[np.int64]:
    """Bin numbers of codes, 1 to ``bins``, with equal width over each dimension's range: (N, D) -> (N, D).

    All codes of a constant dimension are in one bin. A single outlier widens all bins of its dimension.
    """
    columns = np.asarray(codes, np.float64)  # bin edges of integer codes would be integers
    edges = np.linspace(columns.min(0), columns.max(0), bins + 1)[:-1]
    pairs = zip(columns.T, edges.T, strict=True)
    return np.stack([np.digitize(column, edge) for column, edge in pairs], axis=1).astype(np.int64)


def entropies(classes: ArrayLike) -> NDArray[np.float64]:
    """Empirical entropy of each factor, in nats: (N, F) -> (F,)."""
    from sklearn.metrics import mutual_info_score

    return np.array([mutual_info_score(column, column) for column in np.asarray(classes).T], np.float64)


def mutual_information_matrix(codes: ArrayLike, classes: ArrayLike, bins: int = BINS) -> NDArray[np.float64]:
    """Mutual information of each binned code dimension and each factor, in nats: (N, D) and (N, F) -> (D, F).

    It is biased upwards by about (bins - 1)(classes - 1) / 2N, even for independent dimensions.
    """
    from sklearn.metrics import mutual_info_score

    factors = np.asarray(classes).T
    return np.array([[mutual_info_score(f, column) for f in factors] for column in discretize(codes, bins).T])


def mig_from_mutual_information(information: ArrayLike, entropy: ArrayLike) -> float:
    """Mutual information gap (Chen et al., 2018): (D, F) and (F,) -> a number in [0, 1].

    For each factor, the difference between its two most informative dimensions, divided by the factor's entropy; the
    mean over factors. A factor with more values than bins cannot reach 1. DataError if a factor is constant or there
    are fewer than 2 dimensions.
    """
    matrix, total = np.asarray(information, np.float64), np.asarray(entropy, np.float64)
    if (total <= 0).any():
        raise DataError("MIG needs factors that vary, but one of them is constant here; leave it out")
    return float(np.mean(lead(matrix, "MIG") / total))


def modularity_from_mutual_information(information: ArrayLike) -> float:
    """Modularity (Ridgeway and Mozer, 2018): (D, F) -> a number in [0, 1].

    For each dimension, one minus the mean squared information on the other factors divided by that on its main factor;
    the mean over dimensions. A dimension without any information counts as 0. Noise scores above 0, because the bias of
    the information grows with a factor's number of classes. DataError for fewer than 2 factors.
    """
    squared = np.square(np.asarray(information, np.float64))
    if squared.shape[1] < 2:
        raise DataError(f"modularity needs at least 2 factors that vary, got {squared.shape[1]}")
    main = squared.max(1)
    others = (squared.sum(1) - main) / (squared.shape[1] - 1)
    return float(np.mean(np.where(main > 0, 1 - others / np.where(main > 0, main, 1), 0)))


def lead(matrix: NDArray[np.float64], score: str) -> NDArray[np.float64]:
    """Each factor's largest value minus its second largest: (D, F) -> (F,).

    DataError, naming the ``score``, for fewer than 2 dimensions.
    """
    if len(matrix) < 2:
        raise DataError(f"{score} compares the two best latent dimensions, but there is only {len(matrix)}")
    second, first = np.sort(matrix, axis=0)[-2:]
    return first - second
