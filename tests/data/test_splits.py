"""Splits: disjoint, complete, official where there are official ones, and fixed by their own seed."""

import numpy as np
import pytest
import torch

from vaezoo.config.errors import ConfigError
from vaezoo.data.images import Factor, ImageTensor, Pool
from vaezoo.data.splits import divide, left_out_labels, permutation, seed_of

SIZES = {"val_size": 10, "test_size": 0.2, "split_seed": 0, "limit": None}


def numbered(start: int, count: int) -> ImageTensor:
    numbers = torch.arange(start, start + count)
    return ImageTensor(numbers.view(-1, 1, 1, 1).to(torch.uint8), numbers)


def labels(pool: Pool, **changes: object) -> dict[str, list[int]]:
    splits = divide(pool, **{**SIZES, **changes})  # type: ignore[arg-type]
    return {name: part.labels.tolist() for name, part in splits.items()}  # type: ignore[attr-defined]


@pytest.fixture
def pool() -> Pool:
    return Pool(numbered(0, 100), None, None, ())


def test_every_image_is_in_exactly_one_split(pool: Pool) -> None:
    splits = labels(pool)
    assert {name: len(part) for name, part in splits.items()} == {"train": 70, "val": 10, "test": 20}
    assert sorted(splits["train"] + splits["val"] + splits["test"]) == list(range(100))


def test_official_test_images_stay_test_images() -> None:
    splits = labels(Pool(numbered(0, 100), None, numbered(100, 50), ()), test_size=None)
    assert sorted(splits["test"]) == list(range(100, 150))
    assert splits["test"] != sorted(splits["test"])  # mixed, as its first images serve as examples
    assert sorted(splits["train"] + splits["val"]) == list(range(100))


def test_three_official_splits_are_left_as_they_are() -> None:
    splits = labels(Pool(numbered(0, 100), numbered(100, 20), numbered(120, 30), ()))
    assert [sorted(splits[name]) for name in ("train", "val", "test")] == [
        list(range(100)),
        list(range(100, 120)),
        list(range(120, 150)),
    ]


def test_validation_is_mixed_and_fixed_by_the_split_seed(pool: Pool) -> None:
    assert labels(pool) == labels(pool)
    assert labels(pool)["val"] != labels(pool, split_seed=1)["val"]
    assert labels(pool)["val"] != sorted(labels(pool)["val"])


def test_limit_shortens_training_alone_and_nests(pool: Pool) -> None:
    whole, small, smaller = labels(pool), labels(pool, limit=30), labels(pool, limit=20)
    assert small["val"] == whole["val"]
    assert small["test"] == whole["test"]
    assert small["train"] == whole["train"][:30]
    assert smaller["train"] == small["train"][:20]


def test_permutation_is_the_same_for_ever() -> None:
    assert permutation(8, 0, "train").tolist() == [3, 5, 6, 0, 7, 1, 4, 2]
    assert seed_of(0, "train") == 7193855067464343746
    assert sorted(permutation(1000, 3).tolist()) == list(range(1000))


def test_permutation_is_uniform() -> None:
    first = np.bincount([permutation(4, seed)[0] for seed in range(2000)], minlength=4)
    assert np.all(np.abs(first - 500) < 100)  # standard deviation 19


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 71}, r"data\.limit=71 is more than the 70 images"),
        ({"test_size": None}, r"data\.test_size is needed"),
        ({"val_size": 100}, r"data\.val_size=100 takes 100 of 80 images"),
        ({"val_size": 0.001}, r"data\.val_size=0.001 takes 0 of 80 images"),
    ],
)
def test_impossible_sizes_are_refused(pool: Pool, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        labels(pool, **changes)


def classes(left_out: tuple[int, ...], pool: Pool, **changes: object) -> dict[str, set[int]]:
    splits = divide(pool, **{**SIZES, **changes}, left_out=left_out)  # type: ignore[arg-type]
    return {name: set(part.labels.tolist()) for name, part in splits.items()}  # type: ignore[attr-defined]


def in_classes(count: int, start: int = 0) -> ImageTensor:
    numbers = torch.arange(start, start + count)
    return ImageTensor(numbers.view(-1, 1, 1, 1).to(torch.uint8), numbers % 3)


def test_training_and_validation_lose_the_classes_that_are_left_out() -> None:
    whole = Pool(in_classes(90), None, None, ())
    assert classes((1,), whole) == {"train": {0, 2}, "val": {0, 2}, "test": {0, 1, 2}}
    official = Pool(in_classes(90), in_classes(30), in_classes(30), ())
    assert classes((0, 1), official) == {"train": {2}, "val": {2}, "test": {0, 1, 2}}
    splits = divide(whole, **SIZES, left_out=(1,))  # type: ignore[arg-type]
    before = divide(whole, **SIZES)  # type: ignore[arg-type]
    for name in ("train", "val"):
        rest = before[name].pixels[before[name].labels != 1]  # type: ignore[attr-defined]
        assert torch.equal(splits[name].pixels, rest)  # type: ignore[attr-defined]
    assert len(divide(whole, **{**SIZES, "limit": 20}, left_out=(1,))["train"]) == 20  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no images are left; name fewer"):
        classes((0, 1, 2), whole)


def test_classes_are_left_out_by_number_or_name() -> None:
    factors = (Factor("class", ("cat", "dog", "7")),)
    assert left_out_labels(factors, None) == ()
    assert left_out_labels(factors, [1]) == left_out_labels(factors, ["dog"]) == (1,)
    assert left_out_labels(factors, ["7", 7, 0, 2]) == (0, 2)  # a name, if there is one, before a number
    for wanted, said in {3: "leave_out=3 is not a class", "cow": "leave_out=cow is not a class .* cat, dog, 7"}.items():
        with pytest.raises(ConfigError, match=said):
            left_out_labels(factors, [wanted])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"leave_out=\[1\] needs images of one class each, and these have 0 labels"):
        left_out_labels((), [1])
