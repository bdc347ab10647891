"""Statistics over seeds: confidence intervals, tests of differences, and verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vaezoo.comparison.groups import SeedGroup

LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and the half-width of its 95% t-interval, None with one seed."""

    values: dict[int, float]
    mean: float
    half: float | None


@dataclass(frozen=True)
class Difference:
    """Mean of ``first`` minus mean of ``second``, half-width of the 95% interval and p-value; None if not testable.

    ``carried``: whether a distribution-free test could reach p < 0.05 with this number of seeds.
    """

    first: str
    second: str
    mean: float
    half: float | None
    p: float | None
    method: str
    carried: bool = False


@dataclass(frozen=True)
class Verdict:
    """Ranking of one metric: the leader, its status, the labels not distinguishable from it, and a sentence.

    ``status``: "best", significantly better than all others; "ahead", the same, but too few seeds for a
    distribution-free test; "level", some are not distinguishable from it; "untested", single seeds; "none", not ranked.
    """

    status: str
    leader: str
    level_with: tuple[str, ...]
    sentence: str


def estimate(values: dict[int, float]) -> Estimate | None:
    """Mean and 95% t-interval over seeds; None without values."""
    numbers = np.array(list(values.values()), dtype=float)
    if not len(numbers):
        return None
    if len(numbers) == 1:
        return Estimate(values, float(numbers[0]), None)
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Estimate(values, float(numbers.mean()), _t_quantile(len(numbers) - 1) * error)


def difference(first: SeedGroup, second: SeedGroup, name: str) -> Difference | None:
    """``first`` minus ``second``: paired t-test if both have the same seeds, else Welch's; None without values.

    Pairing is valid because runs with the same seed see the training images in the same order. With per-image values,
    the paired interval also covers the choice of test images: the variances over seeds and images are added, with the
    degrees of freedom of the seeds, which is conservative.
    """
    one, other = first.values(name), second.values(name)
    if not one or not other:
        return None
    mean = float(np.mean(list(one.values())) - np.mean(list(other.values())))
    names = (first.label, second.label)
    if len(one) == len(other) == 1:
        error = _error_of_images(first, second, name)
        half = None if error is None else 1.96 * error
        return Difference(*names, mean, half, None, "the images of one seed" if half is not None else "")
    if min(len(one), len(other)) == 1:
        return Difference(*names, mean, None, None, "")
    if one.keys() == other.keys():
        half, p, method = _paired(np.array([one[seed] - other[seed] for seed in one]), first, second, name)
        carried = 2 / 2 ** len(one) < LEVEL
    else:
        half, p, method = _welch(list(one.values()), list(other.values()))
        carried = 2 / math.comb(len(one) + len(other), len(one)) < LEVEL
    return Difference(*names, mean, half, p, method, carried or half == 0)


def _paired(differences: np.ndarray, first: SeedGroup, second: SeedGroup, name: str) -> tuple[float, float, str]:
    variance, method = float(differences.var(ddof=1)) / len(differences), "paired over seeds"
    of_images = _error_of_images(first, second, name)
    if of_images is not None:
        variance, method = variance + of_images**2, "paired over seeds and images"
    return *_t_test(float(differences.mean()), math.sqrt(variance), len(differences) - 1), method


def _welch(one: list[float], other: list[float]) -> tuple[float, float, str]:
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (one, other)]
    error = math.sqrt(sum(parts))
    below = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True))
    freedom = error**4 / below if below else 1.0
    return *_t_test(float(np.mean(one) - np.mean(other)), error, freedom), "Welch"


def _t_test(mean: float, error: float, freedom: float) -> tuple[float, float]:
    """Half-width of the 95% interval, and the two-sided p-value of the hypothesis that the mean is 0."""
    from scipy.stats import t

    if error == 0:  # the seed does not change some metrics, such as the number of parameters
        return 0.0, float(mean == 0)
    return _t_quantile(freedom) * error, float(2 * t.sf(abs(mean) / error, freedom))


def _t_quantile(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / 2, freedom))


def _error_of_images(first: SeedGroup, second: SeedGroup, name: str) -> float | None:
    """Standard error over test images of the difference, averaged over seeds.

    None unless both have the same seeds and all runs stored equally many per-image values.
    """
    kept = [[record.of_images(name) for record in seed_group.records] for seed_group in (first, second)]
    if any(values is None for side in kept for values in side):
        return None
    if len({len(values) for side in kept for values in side if values is not None}) != 1 or first.seeds != second.seeds:
        return None
    means = [np.mean(np.stack([values for values in side if values is not None]), axis=0) for side in kept]
    return float((means[0] - means[1]).std(ddof=1) / math.sqrt(len(means[0])))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-corrected p-values (Holm, 1979), in the given order."""
    count, worst, corrected = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = worst
    return corrected


def verdict(seed_groups: Sequence[SeedGroup], name: str, better: str) -> Verdict | None:
    """The best seed group by a metric, with its significance; None with fewer than two values or no better direction.

    P-values are corrected over all pairs, because the leader is chosen by the same values.
    """
    having = [seed_group for seed_group in seed_groups if seed_group.values(name)]
    if len(having) < 2 or better not in ("higher", "lower"):
        return None
    sign = 1 if better == "higher" else -1
    ranked = sorted(having, key=lambda seed_group: -sign * float(np.mean(list(seed_group.values(name).values()))))
    leader = ranked[0].label
    pairs = [pair for pair in (difference(*two, name) for two in combinations(ranked, 2)) if pair is not None]
    tested = [pair for pair in pairs if pair.p is not None]
    corrected = dict(zip(tested, holm([pair.p or 0.0 for pair in tested]), strict=True))
    rivals = [pair for pair in pairs if pair.first == leader]
    untested = [pair for pair in rivals if pair.p is None]
    level = tuple(pair.second for pair in rivals if pair in corrected and corrected[pair] >= LEVEL)
    if untested:
        return Verdict("untested", leader, level, _say_untested(leader, untested, level))
    if level:
        return Verdict(
            "level", leader, level, f"{leader} has the best mean, but is not distinguishable from {_and(level)}"
        )
    status = "best" if all(pair.carried for pair in rivals) else "ahead"
    return Verdict(status, leader, (), _say_best(status, rivals[0], corrected[rivals[0]]))


def _say_untested(leader: str, untested: Sequence[Difference], level: Sequence[str]) -> str:
    names = _and([pair.second for pair in untested])
    sentence = f"{leader} has the best value; with one seed, differences from {names} cannot be tested"
    nearest = untested[0]
    if nearest.half is not None:
        sentence += (
            f"; over the test images it is {figures(abs(nearest.mean), nearest.half)} ± "
            f"{figures(nearest.half, nearest.half)} ahead of {nearest.second}, but other seeds may differ"
        )
    return sentence + (f"; it is not distinguishable from {_and(level)}" if level else "")


def _say_best(status: str, nearest: Difference, p: float) -> str:
    gap = f"{figures(abs(nearest.mean), nearest.half)} from {nearest.second}, the next"
    if nearest.half == 0:
        return f"{nearest.first} is best: {gap}, the same for every seed"
    low, high = (abs(nearest.mean) - (nearest.half or 0), abs(nearest.mean) + (nearest.half or 0))
    sure = f"95% interval {figures(low, nearest.half)} to {figures(high, nearest.half)}, {nearest.method},"
    sure += f" p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} after Holm"
    if status == "best":
        return f"{nearest.first} is best: {gap} ({sure})"
    return f"{nearest.first} is ahead: {gap} ({sure}); this relies on a t-test, and more seeds are needed to be sure"


def figures(value: float, half: float | None) -> str:
    """Format a number to the second significant digit of its half-width.

    Without one, whole numbers are written in full and others with three significant digits.
    """
    if not half:
        if value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}".replace("-", "−")
        digits = 2 - math.floor(math.log10(abs(value)))
    else:
        digits = 1 - math.floor(math.log10(half))
    rounded = round(value, digits)
    return f"{rounded + 0.0:,.{max(0, min(8, digits))}f}".replace("-", "−")


MOST_NAMES = 6


def _and(names: Sequence[str]) -> str:
    """Names in a sentence; of many, the first and how many more there are."""
    if len(names) > MOST_NAMES:
        names = [*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} others"]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
