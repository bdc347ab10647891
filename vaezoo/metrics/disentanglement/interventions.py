"""Disentanglement scores from holding one factor fixed: FactorVAE and beta-VAE scores.

Definitions and defaults as in Locatello et al. (2019), except that the fixed factor is not drawn but cycles, so that
every factor is used equally often.
"""

import numpy as np
from numpy.typing import NDArray

from vaezoo.metrics.disentanglement.samplers import Codes, FactorSampler

BATCH_SIZE = 64
TRAIN_BATCHES = 10_000
TEST_BATCHES = 5_000

LEAST_STD = 0.05
"""Minimum standard deviation of a dimension's codes over images; below it, the dimension has no vote."""


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
    """Accuracy of identifying the fixed factor by the dimension that varies least in a batch (Kim and Mnih, 2018).

    Variances in a batch are relative to ``variances`` (D,), those over all images. A majority vote of training batches
    assigns each dimension to a factor; the score is the accuracy on test batches. Chance is 1 / factors; 0 without any
    live dimension.
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
    """Whether each dimension has a vote in the FactorVAE score, from its variance: (D,) -> (D,)."""
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
    """Test accuracy of a logistic regression that identifies the factor shared by pairs (Higgins et al., 2017).

    Its input is the mean absolute difference of a batch of pairs in each dimension, unscaled and including dead
    dimensions, so the score depends on the scale of the codes. Chance is 1 / factors.
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
