"""Disentanglement scores from holding one factor fixed: the FactorVAE and the beta-VAE score. Nothing of models.

Definitions and defaults as in Locatello et al. (2019), but for one thing: the factor to hold fixed is not drawn but
goes round, so that every factor comes up equally often.
"""

import numpy as np
from numpy.typing import NDArray

from vaezoo.metrics.disentanglement.samplers import Codes, FactorSampler

BATCH_SIZE = 64
TRAIN_BATCHES = 10_000
TEST_BATCHES = 5_000

LEAST_STD = 0.05
"""A dimension whose codes vary less than this over images is dead and has no vote."""


def factor_vae_score(
    train: FactorSampler,
    test: FactorSampler,
    variances: NDArray[np.float64],
    *,
    generator: np.random.Generator,
    batch_size: int = BATCH_SIZE,
    train_batches: int = TRAIN_BATCHES,
    test_batches: int = TEST_BATCHES,
) -> float:
    """How often a factor held fixed is told by the dimension that varies least, relative to its ``variances`` (D,).

    A table from dimensions to factors is made by majority from training batches; the score is its accuracy on test
    batches (Kim and Mnih, 2018). Chance is one over the number of factors. Without any live dimension it is 0.
    """
    live = live_dimensions(variances)
    if not live.any():
        return 0.0

    def votes(sampler: FactorSampler, batches: int) -> NDArray[np.int64]:
        table = np.zeros((int(live.sum()), sampler.factor_count), np.int64)
        for factor in _rounds(sampler, batches):
            codes = sampler.sharing(factor, batch_size, generator)[:, live]
            table[np.argmin(codes.var(0, ddof=1) / variances[live]), factor] += 1
        return table

    winners = votes(train, train_batches).argmax(1)
    tested = votes(test, test_batches)
    return float(tested[np.arange(len(tested)), winners].sum() / tested.sum())


def live_dimensions(variances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which dimensions have a vote in the FactorVAE score: (D,) -> (D,)."""
    return np.sqrt(variances) >= LEAST_STD


def beta_vae_score(
    train: FactorSampler,
    test: FactorSampler,
    *,
    generator: np.random.Generator,
    batch_size: int = BATCH_SIZE,
    train_batches: int = TRAIN_BATCHES,
    test_batches: int = TEST_BATCHES,
) -> float:
    """How well logistic regression tells the factor that pairs of images share (Higgins et al., 2017): test accuracy.

    It sees the mean absolute difference of a batch of pairs in each dimension, dead ones too, as it is: the score
    depends on the scale of the codes. Chance is one over the number of factors.
    """
    from sklearn.linear_model import LogisticRegression

    def features(sampler: FactorSampler, batches: int) -> tuple[Codes, NDArray[np.int64]]:
        factors = _rounds(sampler, batches)
        pairs = (sampler.pairs(factor, batch_size, generator) for factor in factors)
        return np.stack([np.abs(first - second).mean(0) for first, second in pairs]), np.array(factors)

    regression = LogisticRegression(solver="newton-cg", max_iter=1000).fit(*features(train, train_batches))
    return float(regression.score(*features(test, test_batches)))


def _rounds(sampler: FactorSampler, batches: int) -> list[int]:
    """The factor to hold fixed in each batch."""
    return [batch % sampler.factor_count for batch in range(batches)]
