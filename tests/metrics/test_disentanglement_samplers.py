"""Batches of encoded images that share a factor's value."""

import numpy as np
import pytest

from vaezoo.config.errors import DataError
from vaezoo.metrics.disentanglement import EncodedImages, EncodedLattice, FactorSampler

SIZES = (2, 3, 4)


def lattice(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(SIZES, size=(count, len(SIZES)))


def numbered(classes: np.ndarray) -> EncodedImages:
    """Images whose code is their factor classes and their own number."""
    return EncodedImages(np.column_stack([classes, np.arange(len(classes))]), classes)


SAMPLERS = pytest.mark.parametrize(
    "sampler", [numbered(lattice(500)), EncodedLattice(lambda classes: classes, SIZES)], ids=["images", "lattice"]
)


@SAMPLERS
def test_a_batch_shares_one_value_of_one_factor_alone(sampler: FactorSampler) -> None:
    generator = np.random.default_rng(0)
    for factor in range(3):
        batches = [sampler.sharing(factor, 64, generator) for _ in range(40)]
        assert all(len(np.unique(codes[:, factor])) == 1 and len(codes) == 64 for codes in batches)
        assert {codes[0, factor] for codes in batches} == set(range(SIZES[factor]))
        others = [other for other in range(3) if other != factor]
        assert all(len(np.unique(codes[:, other])) == SIZES[other] for codes in batches for other in others)


@SAMPLERS
def test_pairs_share_their_value_of_one_factor_and_differ_from_pair_to_pair(sampler: FactorSampler) -> None:
    generator = np.random.default_rng(0)
    for factor in range(3):
        first, second = sampler.pairs(factor, 3000, generator)
        assert (first[:, factor] == second[:, factor]).all()
        values, counts = np.unique(first[:, factor], return_counts=True)
        assert counts == pytest.approx(3000 / len(values), rel=0.2)
        for other in {0, 1, 2} - {factor}:
            assert (first[:, other] == second[:, other]).mean() == pytest.approx(1 / SIZES[other], abs=0.04)


def test_images_of_a_batch_and_of_a_pair_are_different_ones() -> None:
    images, generator = numbered(lattice(30)), np.random.default_rng(0)
    for factor in range(3):
        batch = images.sharing(factor, 64, generator)[:, -1]
        assert len(np.unique(batch)) == len(batch)
        first, second = images.pairs(factor, 500, generator)
        assert (first[:, -1] != second[:, -1]).all()


def test_every_other_image_of_a_class_is_an_equally_likely_partner() -> None:
    images = numbered(np.array([[5], [7], [5], [5], [7], [5]]))
    first, second = images.pairs(0, 20_000, np.random.default_rng(0))
    partners = second[first[:, -1] == 2][:, -1]
    values, counts = np.unique(partners, return_counts=True)
    assert values.tolist() == [0, 3, 5]
    assert counts == pytest.approx(len(partners) / 3, rel=0.1)


def test_a_class_smaller_than_the_batch_gives_all_its_images() -> None:
    images = numbered(np.array([[0], [1], [0], [1], [0], [1]]))
    batch = images.sharing(0, 64, np.random.default_rng(0))
    assert sorted(batch[:, -1]) in ([0, 2, 4], [1, 3, 5])


def test_a_value_of_one_image_alone_is_never_held_fixed() -> None:
    images, generator = numbered(np.array([[0], [1], [0], [2], [0]])), np.random.default_rng(0)
    assert {code for _ in range(20) for code in images.sharing(0, 9, generator)[:, 0]} == {0}
    assert images.fewest_alike == 3


def test_a_factor_whose_values_are_all_alone_is_refused() -> None:
    images = numbered(np.arange(4)[:, None])
    assert images.fewest_alike == 0
    with pytest.raises(DataError, match="no two of the 4 images share a value of factor 0"):
        images.pairs(0, 2, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("codes", "classes", "message"),
    [
        (np.ones(3), np.ones((3, 2)), r"codes must be numbers of shape \(images, dimensions\), got shape \(3,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), r"got shape \(0, 2\)"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "not numbers"),
        (np.ones((3, 2)), np.ones(3), r"must have shape \(3, factors\), got \(3,\)"),
        (np.ones((3, 2)), np.ones((4, 2)), r"must have shape \(3, factors\), got \(4, 2\)"),
        (np.ones((3, 2)), np.full((3, 2), 0.5), "must be whole numbers"),
    ],
)
def test_arrays_that_cannot_be_scored_are_refused_in_words(
    codes: np.ndarray, classes: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        EncodedImages(codes, classes)
