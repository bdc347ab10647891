"""All disentanglement scores of a set of codes, each with its sample sizes and settings."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vaezoo.config.errors import DataError
from vaezoo.config.validation import at_least
from vaezoo.metrics.disentanglement import information, interventions, prediction
from vaezoo.metrics.disentanglement.samplers import EncodedImages


@dataclass(frozen=True)
class Score:
    """A score with its number of images and settings; without a value, the reason why it is undefined.

    ``n`` is the number of images for fitting or measuring; the setting ``test`` is that of images a fit is scored on.
    """

    value: float | None
    n: int
    settings: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Sizes:
    """Maximum sample sizes, with the defaults of Locatello et al. (2019) except for ``dci_train``.

    Args:
        train, test: images to fit to and images to score on.
        dci_train: images to fit boosted trees to. The study's 10,000 take minutes of CPU time for the factors of
            sprites, and give higher disentanglement and completeness: compare only scores of equal size.
        bins: per code dimension, for mutual information.
        batch_size: images or pairs per batch that share a factor's value.
        train_batches, test_batches: numbers of such batches for the FactorVAE and beta-VAE scores.

    Raises:
        ConfigError: a size is below 2.
    """

    train: int = 10_000
    test: int = 5_000
    dci_train: int = 2_000
    bins: int = information.BINS
    batch_size: int = interventions.BATCH_SIZE
    train_batches: int = interventions.TRAIN_BATCHES
    test_batches: int = interventions.TEST_BATCHES

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            at_least(size, 2, name)


DEFAULT_SIZES = Sizes()


@dataclass(frozen=True)
class _Task:
    """Input of every score: at most ``sizes`` images, with the factors that vary."""

    train: EncodedImages
    test: EncodedImages
    sizes: Sizes
    seed: int

    def generator(self, stream: int) -> np.random.Generator:
        """A generator of its own for each score, so that scores do not affect each other."""
        return np.random.default_rng([self.seed, stream])


def evaluate_disentanglement(
    train_codes: ArrayLike,
    train_factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    seed: int,
    sizes: Sizes = DEFAULT_SIZES,
    names: Sequence[str] | None = None,
) -> dict[str, Score]:
    """MIG, modularity, SAP, DCI, FactorVAE and beta-VAE scores of codes (N, D) against factor classes (N, F).

    Codes are posterior means if the model has a posterior. Factors that are constant in either set are left out and
    listed in the settings. MIG and modularity are measured on the training images. A score that is undefined for these
    codes has a reason instead of a value.

    Args:
        seed: selects the images, if there are more than ``sizes``, and seeds the scores.
        names: of the factors, for the settings; by default their indices.

    Raises:
        DataError: the shapes do not match, a code is not finite, or fewer than 2 factors vary.
    """
    train, test = EncodedImages(train_codes, train_factors), EncodedImages(test_codes, test_factors)
    task = _task(train, test, sizes, seed)
    kept = _varying(task)
    task = _Task(task.train.select(factors=kept), task.test.select(factors=kept), sizes, seed)
    left_out = [factor for factor in range(train.factor_count) if factor not in kept]
    common: dict[str, Any] = {"seed": seed, "factors": len(kept)}
    if left_out:
        common["constant_factors_left_out"] = [names[factor] if names else str(factor) for factor in left_out]
    scores: dict[str, Score] = {}
    for family in (_by_information, _by_single_dimensions, _by_boosted_trees, _by_fixed_factors):
        scores |= family(task)
    return {name: Score(one.value, one.n, {**common, **one.settings}, one.reason) for name, one in scores.items()}


def _task(train: EncodedImages, test: EncodedImages, sizes: Sizes, seed: int) -> _Task:
    """A random selection of images in random order, because the input may be sorted by factors."""
    for what, first, second in (
        ("latent dimensions", train.codes.shape[1], test.codes.shape[1]),
        ("factors", train.factor_count, test.factor_count),
    ):
        if first != second:
            raise DataError(f"training and test images must have the same {what}, got {first} and {second}")
    generator = np.random.default_rng([seed, 0])
    chosen = [generator.permutation(len(part))[:most] for part, most in ((train, sizes.train), (test, sizes.test))]
    return _Task(train.select(chosen[0]), test.select(chosen[1]), sizes, seed)


def _varying(task: _Task) -> list[int]:
    """The factors that vary in all sets; DataError for fewer than two."""
    kept = sorted({*_dci_train(task).varying} & {*task.test.varying})
    if len(kept) < 2:
        total = task.train.factor_count
        raise DataError(f"disentanglement scores need at least 2 factors that vary, but of {total} here {len(kept)} do")
    return kept


def _dci_train(task: _Task) -> EncodedImages:
    return task.train.select(slice(task.sizes.dci_train))


def _score(n: int, settings: dict[str, Any], compute: Callable[[], float]) -> Score:
    try:
        return Score(compute(), n, settings)
    except DataError as error:
        return Score(None, n, settings, str(error))


def _by_information(task: _Task) -> dict[str, Score]:
    n, settings = len(task.train), {"bins": task.sizes.bins}
    matrix = information.mutual_information_matrix(task.train.codes, task.train.classes, task.sizes.bins)
    entropy = information.entropies(task.train.classes)
    return {
        "mig": _score(n, settings, lambda: information.mig_from_mutual_information(matrix, entropy)),
        "modularity": _score(n, settings, lambda: information.modularity_from_mutual_information(matrix)),
    }


def _by_single_dimensions(task: _Task) -> dict[str, Score]:
    n, settings = len(task.train), {"test": len(task.test), "estimator": prediction.MACHINE}
    accuracy = prediction.sap_scores(task.train, task.test)
    return {"sap": _score(n, settings, lambda: prediction.sap_from_scores(accuracy))}


def _by_boosted_trees(task: _Task) -> dict[str, Score]:
    train = _dci_train(task)
    n, settings = len(train), {"test": len(task.test), "estimator": prediction.TREES}
    importance, accuracy = prediction.boosted_importance(train, task.test, generator=task.generator(1))
    return {
        "dci_disentanglement": _score(n, settings, lambda: prediction.dci_from_importance(importance)[0]),
        "dci_completeness": _score(n, settings, lambda: prediction.dci_from_importance(importance)[1]),
        "dci_informativeness": Score(float(accuracy.mean()), n, settings),
    }


def _by_fixed_factors(task: _Task) -> dict[str, Score]:
    train, test = task.train, task.test
    batches = {name: getattr(task.sizes, name) for name in ("batch_size", "train_batches", "test_batches")}
    few = min(train.fewest_alike, test.fewest_alike)
    settings = {"test": len(test), **batches, "fewest_images_of_a_value": few}
    variances = train.codes.var(0, ddof=1)
    live = {"live_dimensions": int(interventions.live_dimensions(variances).sum())}

    def factor_vae() -> float:
        return interventions.factor_vae_score(train, test, variances, generator=task.generator(2), **batches)

    def beta_vae() -> float:
        return interventions.beta_vae_score(train, test, generator=task.generator(3), **batches)

    return {
        "factor_vae_score": _score(len(train), settings | live, factor_vae),
        "beta_vae_score": _score(len(train), settings, beta_vae),
    }
