"""Disentanglement scores of codes with a known answer: perfect, rotated, random, duplicated and dead ones."""

from collections.abc import Callable

import numpy as np
import pytest

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.metrics.disentanglement import (
    EncodedImages,
    EncodedLattice,
    Score,
    Sizes,
    beta_vae_score,
    entropies,
    evaluate_disentanglement,
    factor_vae_score,
    mig_from_mutual_information,
    modularity_from_mutual_information,
    mutual_information_matrix,
    sap_from_scores,
    sap_scores,
)

SIZES = (3, 4, 5)
SPRITES = (3, 6, 40, 32, 32)
SMALL = Sizes(train=1500, test=600, dci_train=300, train_batches=600, test_batches=600)
NAMES = {
    *("mig", "sap", "modularity", "dci_disentanglement", "dci_completeness", "dci_informativeness"),
    *("factor_vae_score", "beta_vae_score"),
}
Encoder = Callable[[np.ndarray], np.ndarray]


def draw(count: int, seed: int, sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    return np.random.default_rng(seed).integers(sizes, size=(count, len(sizes)))


def perfect(classes: np.ndarray, sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    """Each factor in one dimension, with mean 0 and variance 1 over the lattice."""
    count = np.array(sizes)
    return (classes - (count - 1) / 2) / np.sqrt((count**2 - 1) / 12)


def rotation(dimensions: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(5).normal(size=(dimensions, dimensions)))[0]


def noise(classes: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(classes)).normal(size=classes.shape)


ENCODERS: dict[str, Encoder] = {
    "perfect": perfect,
    "rotated": lambda classes: perfect(classes) @ rotation(3),
    "noise": noise,
    "duplicated": lambda classes: np.hstack([perfect(classes)] * 2),
}


def evaluate(encode: Encoder, *, seed: int = 0, sizes: Sizes = SMALL) -> dict[str, Score]:
    train, test = draw(2000, 1), draw(1000, 2)
    return evaluate_disentanglement(encode(train), train, encode(test), test, seed=seed, sizes=sizes)


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, float]]:
    found = {name: evaluate(encode) for name, encode in ENCODERS.items()}
    return {name: {metric: float(score.value or 0) for metric, score in row.items()} for name, row in found.items()}


def test_a_perfect_code_has_every_score_at_its_ceiling(scores: dict[str, dict[str, float]]) -> None:
    assert set(scores["perfect"]) == NAMES
    # SAP has none: one line does not tell all of five classes in a row apart.
    ceilings = dict.fromkeys(NAMES, 1.0) | {"sap": scores["perfect"]["sap"]}
    assert scores["perfect"] == pytest.approx(ceilings, abs=0.01)


def test_sap_of_two_binary_factors_in_two_dimensions_is_one_half() -> None:
    """The right dimension is always right, the other one in half of the cases."""
    classes = np.stack(np.unravel_index(np.arange(400) % 4, (2, 2)), axis=1)
    images = EncodedImages(10 * classes, classes)
    accuracy = sap_scores(images, images)
    assert accuracy.tolist() == [[1, 0.5], [0.5, 1]]
    assert sap_from_scores(accuracy) == 0.5


def test_accuracies_are_those_on_test_images() -> None:
    """Test images with their two classes exchanged: whatever was learned perfectly is wrong each time."""
    train, test = draw(600, 1, (2, 2)), draw(400, 2, (2, 2))
    few = Sizes(train_batches=50, test_batches=50)
    found = evaluate_disentanglement(10 * train, train, 10 * (1 - test), test, seed=0, sizes=few)
    assert found["dci_informativeness"].value == 0
    accuracy = sap_scores(EncodedImages(10 * train, train), EncodedImages(10 * (1 - test), test))
    assert np.diag(accuracy).tolist() == [0, 0]
    swapped = evaluate_disentanglement(perfect(train, (2, 2)), train, perfect(test[:, ::-1], (2, 2)), test, seed=0)
    assert (swapped["factor_vae_score"].value, swapped["beta_vae_score"].value) == (0, 0)


def test_a_rotated_code_scores_lower_though_it_knows_as_much(scores: dict[str, dict[str, float]]) -> None:
    rotated = scores["rotated"]
    assert rotated["mig"] < 0.3
    assert rotated["sap"] < 0.25
    assert rotated["dci_disentanglement"] < 0.5
    assert rotated["dci_completeness"] < 0.5
    assert rotated["modularity"] < 0.95
    assert rotated["dci_informativeness"] > 0.75


def test_noise_scores_what_chance_gives(scores: dict[str, dict[str, float]]) -> None:
    chance = scores["noise"]
    assert chance["factor_vae_score"] == pytest.approx(1 / 3, abs=0.07)
    assert chance["beta_vae_score"] == pytest.approx(1 / 3, abs=0.07)
    assert chance["dci_informativeness"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 5) / 3, abs=0.05)
    assert max(chance[name] for name in ("mig", "sap", "dci_disentanglement", "dci_completeness")) < 0.06


def test_scores_disagree_about_a_factor_that_two_dimensions_hold(scores: dict[str, dict[str, float]]) -> None:
    twice = scores["duplicated"]
    assert (twice["mig"], twice["sap"]) == (0, 0)
    for name in ("dci_disentanglement", "factor_vae_score", "modularity"):
        assert twice[name] == pytest.approx(1, abs=0.01)
    # Between log 2 / log 6 for an even division and 1 for all weight on one of the two.
    assert twice["dci_completeness"] < 0.95


@pytest.mark.parametrize("name", ["perfect", "rotated"])
def test_order_and_sign_of_the_dimensions_do_not_matter(name: str, scores: dict[str, dict[str, float]]) -> None:
    turned = evaluate(lambda classes: -ENCODERS[name](classes)[:, ::-1])
    assert {metric: score.value for metric, score in turned.items()} == pytest.approx(scores[name], abs=0.03)


def test_scale_and_offset_do_not_matter_to_scores_that_are_free_of_them(scores: dict[str, dict[str, float]]) -> None:
    stretched = evaluate(lambda classes: ENCODERS["rotated"](classes) * [64.0, 4.0, 0.5] + [3.0, -2.0, 0.0])
    for name in ("mig", "modularity", "factor_vae_score"):
        assert stretched[name].value == pytest.approx(scores["rotated"][name], abs=1e-6)
    for name in ("dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert stretched[name].value == pytest.approx(scores["rotated"][name], abs=0.02)


def test_the_seed_alone_decides_and_global_random_numbers_are_left_alone() -> None:
    tiny = Sizes(train=200, test=100, dci_train=60, train_batches=50, test_batches=50)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = evaluate(ENCODERS["rotated"], seed=3, sizes=tiny)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert evaluate(ENCODERS["rotated"], seed=3, sizes=tiny) == first
    other = evaluate(ENCODERS["rotated"], seed=4, sizes=tiny)
    assert all(other[name].value != first[name].value for name in NAMES)


def test_classes_themselves_are_codes_too() -> None:
    tiny = Sizes(train=600, test=300, dci_train=60, train_batches=50, test_batches=50)
    found = evaluate(lambda classes: classes, sizes=tiny)
    assert found["mig"].value == pytest.approx(1, abs=0.02)
    assert found["factor_vae_score"].value == 1


def test_fewer_images_than_asked_for_are_used_and_told() -> None:
    train, test = draw(80, 1), draw(50, 2)
    sizes = Sizes(train_batches=50, test_batches=50)
    found = evaluate_disentanglement(perfect(train), train, perfect(test), test, seed=0, sizes=sizes)
    assert {score.n for score in found.values()} == {80}
    assert {found[name].settings["test"] for name in NAMES - {"mig", "modularity"}} == {50}
    assert found["factor_vae_score"].settings["fewest_images_of_a_value"] < 20
    assert all(score.value is not None for score in found.values())


def test_more_images_than_asked_for_are_drawn_at_random_from_sorted_ones() -> None:
    train, test = np.sort(draw(900, 1), axis=0), draw(300, 2)
    tiny = Sizes(train=150, test=60, dci_train=40, train_batches=30, test_batches=30)
    found = evaluate_disentanglement(perfect(train), train, perfect(test), test, seed=0, sizes=tiny)
    assert {name: found[name].n for name in ("mig", "sap", "dci_completeness")} == {
        **{"mig": 150, "sap": 150},
        "dci_completeness": 40,
    }
    assert found["dci_completeness"].settings == {
        **{"seed": 0, "factors": 3, "test": 60},
        "estimator": "GradientBoostingClassifier(n_estimators=100, max_depth=3)",
    }


def test_a_constant_factor_is_left_out_and_named() -> None:
    train, test = draw(200, 1), draw(100, 2)
    tiny = Sizes(dci_train=40, train_batches=30, test_batches=30)
    without = evaluate_disentanglement(perfect(train), train, perfect(test), test, seed=0, sizes=tiny)
    colour = np.zeros((200, 1), int)
    found = evaluate_disentanglement(
        *(perfect(train), np.hstack([colour, train]), perfect(test), np.hstack([colour[:100], test])),
        seed=0,
        sizes=tiny,
        names=("colour", "shape", "scale", "angle"),
    )
    assert {name: score.value for name, score in found.items()} == {name: s.value for name, s in without.items()}
    assert all(score.settings["constant_factors_left_out"] == ["colour"] for score in found.values())
    assert "constant_factors_left_out" not in without["mig"].settings


@pytest.mark.parametrize("constant_in", ["train", "test"])
def test_a_factor_that_is_constant_in_one_set_alone_is_left_out_too(constant_in: str) -> None:
    train, test = draw(200, 1), draw(100, 2)
    (train if constant_in == "train" else test)[:, 1] = 0
    tiny = Sizes(dci_train=40, train_batches=30, test_batches=30)
    found = evaluate_disentanglement(perfect(train), train, perfect(test), test, seed=0, sizes=tiny)
    assert all(score.settings["constant_factors_left_out"] == ["1"] for score in found.values())
    assert all(score.value is not None for score in found.values())


def test_without_two_factors_that_vary_there_is_no_score() -> None:
    classes = draw(100, 1) * [1, 0, 0]
    with pytest.raises(DataError, match="at least 2 factors that vary, but of 3 here 1 do"):
        evaluate_disentanglement(perfect(classes), classes, perfect(classes), classes, seed=0)


def test_training_and_test_codes_must_have_the_same_dimensions() -> None:
    classes = draw(100, 1)
    with pytest.raises(DataError, match="same latent dimensions, got 3 and 2"):
        evaluate_disentanglement(perfect(classes), classes, perfect(classes)[:, :2], classes, seed=0)


def test_sizes_below_two_are_refused() -> None:
    with pytest.raises(ConfigError, match="dci_train must be at least 2, got 1"):
        Sizes(dci_train=1)


def test_one_latent_dimension_has_reasons_in_place_of_gaps() -> None:
    tiny = Sizes(train=200, test=100, dci_train=40, train_batches=30, test_batches=30)
    found = evaluate(lambda classes: perfect(classes)[:, :1], sizes=tiny)
    undefined = {name for name, score in found.items() if score.value is None}
    assert undefined == {"mig", "sap", "dci_disentanglement", "dci_completeness"}
    assert all(bool(found[name].reason) == (name in undefined) for name in NAMES)


def test_a_collapsed_code_scores_nothing_and_does_not_fail() -> None:
    tiny = Sizes(train=400, test=300, dci_train=40, train_batches=60, test_batches=60)
    found = evaluate(lambda classes: np.full(classes.shape, 0.3), sizes=tiny)
    zero = ("mig", "sap", "modularity", "dci_disentanglement", "dci_completeness", "factor_vae_score")
    assert [found[name].value for name in zero] == pytest.approx([0] * len(zero), abs=1e-12)
    assert found["factor_vae_score"].settings["live_dimensions"] == 0
    assert found["beta_vae_score"].value == pytest.approx(1 / 3)  # factors go round, all are guessed the same


@pytest.mark.parametrize(("std", "expected"), [(0.06, 1.0), (0.04, 1 / 3)])
def test_factor_vae_score_hears_no_dimension_of_std_below_a_twentieth(std: float, expected: float) -> None:
    """Where noise is the only live dimension, it has every vote and stands for one factor of the three."""
    classes = draw(2000, 1)
    images = EncodedImages(np.column_stack([noise(classes)[:, 0], std * perfect(classes)]), classes)
    few = {"train_batches": 300, "test_batches": 300, "generator": np.random.default_rng(0)}
    assert factor_vae_score(images, images, images.codes.var(0, ddof=1), **few) == pytest.approx(expected)


def test_perfect_sprites_have_the_known_ceilings() -> None:
    """Twenty bins resolve 32 positions and 40 angles to 0.80 and 0.84 of their entropy: MIG 0.896 at 10,000 images."""
    classes = draw(10_000, 1, SPRITES)
    information = mutual_information_matrix(perfect(classes, SPRITES), classes)
    entropy = entropies(classes)
    assert mig_from_mutual_information(information, entropy) == pytest.approx(0.896, abs=0.003)
    assert np.diag(information) / entropy == pytest.approx([1, 1, 0.81, 0.845, 0.845], abs=0.015)
    assert modularity_from_mutual_information(information) == pytest.approx(1, abs=0.001)


def test_modularity_of_noise_is_far_from_zero_as_documented() -> None:
    """The bias is as classes less one: without its spread the score is 1 - (2² + 5² + 31² + 31²) / (4 * 39²) = 0.68."""
    classes = draw(10_000, 1, SPRITES)
    information = mutual_information_matrix(np.random.default_rng(0).normal(size=(10_000, 10)), classes)
    assert modularity_from_mutual_information(information) == pytest.approx(0.68, abs=0.04)


@pytest.mark.parametrize("encode", [lambda c: perfect(c) @ rotation(3), lambda c: perfect(c) @ np.diag([1, 1, 0.5])])
def test_ten_thousand_images_score_like_the_whole_lattice(encode: Encoder) -> None:
    images, lattice = (EncodedImages(encode(draw(n, n)), draw(n, n)) for n in (10_000, 5000))
    everything = EncodedLattice(encode, SIZES)
    variances = images.codes.var(0, ddof=1)
    few = {"train_batches": 1500, "test_batches": 1500}

    def both(train: EncodedImages | EncodedLattice, test: EncodedImages | EncodedLattice) -> tuple[float, float]:
        generators = np.random.default_rng(0), np.random.default_rng(1)
        return (
            factor_vae_score(train, test, variances, generator=generators[0], **few),
            beta_vae_score(train, test, generator=generators[1], **few),
        )

    assert both(images, lattice) == pytest.approx(both(everything, everything), abs=0.03)


def test_few_images_of_noise_do_not_give_the_fixed_factor_away() -> None:
    """Pairs of an image with itself would: they come up more often in factors of many values."""
    generator = np.random.default_rng(0)
    sizes = (2, 2, 60)
    classes = generator.integers(sizes, size=(300, 3))
    images = EncodedImages(generator.normal(size=(300, 4)), classes)
    score = beta_vae_score(images, images, generator=generator, train_batches=900, test_batches=900)
    assert score < 0.6
