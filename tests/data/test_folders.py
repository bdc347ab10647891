"""Folders of images: splits and classes by the names of folders, in a fixed order."""

import logging
from pathlib import Path

import pytest
from PIL import Image

from vaezoo.config.errors import DataError
from vaezoo.data.files import ImageFiles
from vaezoo.data.folders import open_folder
from vaezoo.data.images import Factor, Pool

SHAPE = (1, 8, 8)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(root / name)
    return root


def listed(part: object, root: Path) -> list[str]:
    assert isinstance(part, ImageFiles)
    return [str(Path(part.path(position)).relative_to(root)) for position in range(len(part))]


def labels(part: object) -> list[int]:
    assert isinstance(part, ImageFiles)
    return part.labels.tolist()


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    pool = open_folder(touch(tmp_path, "dog/b.png", "cat/deep/z.PNG", "dog/a.jpeg"), SHAPE)
    assert listed(pool.train, tmp_path) == ["cat/deep/z.PNG", "dog/a.jpeg", "dog/b.png"]
    assert labels(pool.train) == [0, 1, 1]
    assert pool.factors == (Factor("class", ("cat", "dog")),)
    assert pool.val is pool.test is None


@pytest.mark.parametrize("names", [("b.png", "a.png"), ("all/b.png", "all/a.png")])
def test_images_without_class_folders_have_no_labels(names: tuple[str, ...], tmp_path: Path) -> None:
    pool = open_folder(touch(tmp_path, *names), SHAPE)
    assert listed(pool.train, tmp_path) == sorted(names)
    assert labels(pool.train) == [-1, -1]
    assert pool.factors == ()


def test_split_folders_are_splits_and_share_their_classes(tmp_path: Path) -> None:
    names = ("train/a/1.png", "train/c/2.png", "val/c/3.png", "test/b/4.png")
    pool = open_folder(touch(tmp_path, *names), SHAPE)
    assert pool.factors == (Factor("class", ("a", "b", "c")),)
    assert (labels(pool.train), labels(pool.val), labels(pool.test)) == ([0, 2], [2], [1])
    assert listed(pool.test, tmp_path) == ["test/b/4.png"]


def test_a_missing_val_folder_leaves_validation_to_be_split_off(tmp_path: Path) -> None:
    pool = open_folder(touch(tmp_path, "train/1.png", "test/2.png"), SHAPE)
    assert isinstance(pool, Pool)
    assert pool.val is None
    assert pool.test is not None


def test_other_files_hidden_files_and_linked_folders_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = touch(tmp_path / "outside", "c.png")
    root = touch(tmp_path / "root", "a.png", ".hidden.png", ".cache/b.png")
    (root / "notes.txt").write_text("no image")
    (root / "linked").symlink_to(outside, target_is_directory=True)
    (root / "train").symlink_to(outside, target_is_directory=True)
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        assert listed(open_folder(root, SHAPE).train, root) == ["a.png"]
    assert "skipped 2 links" in caplog.text
    assert str(root / "linked") in caplog.text
    assert "data.follow_links=true follows them" in caplog.text


def test_a_subset_made_of_links_says_how_to_follow_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = touch(tmp_path / "all", "1.png", "2.png", "3.png")
    root = tmp_path / "subset"
    for split, name in (("train", "1"), ("train", "2"), ("test", "3")):
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / split / f"{name}.png").symlink_to(outside / f"{name}.png")
    with pytest.raises(DataError, match=r"no images in .*; 2 links were skipped; data\.follow_links=true"):
        open_folder(root, SHAPE)
    caplog.clear()
    pool = open_folder(root, SHAPE, follow_links=True)
    assert listed(pool.train, root) == ["train/1.png", "train/2.png"]
    assert listed(pool.test, root) == ["test/3.png"]
    assert not caplog.records


def test_links_to_folders_are_followed_where_that_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / "all", "cat/1.png", "dog/2.png", "train/3.png")
    root = tmp_path / "subset"
    root.mkdir()
    (root / "train").symlink_to(tmp_path / "all", target_is_directory=True)
    pool = open_folder(root, SHAPE, follow_links=True)
    assert listed(pool.train, root) == ["train/cat/1.png", "train/dog/2.png", "train/train/3.png"]
    assert pool.factors == (Factor("class", ("cat", "dog", "train")),)


def test_a_loop_of_links_and_a_folder_twice_are_refused(tmp_path: Path) -> None:
    root = touch(tmp_path / "loop", "a/1.png")
    (root / "a" / "back").symlink_to(root, target_is_directory=True)
    with pytest.raises(DataError, match=r"is the same folder as .*loop through a link"):
        open_folder(root, SHAPE, follow_links=True)
    twice = touch(tmp_path / "twice", "a/1.png")
    (twice / "b").symlink_to(twice / "a", target_is_directory=True)
    with pytest.raises(DataError, match="images would count twice; remove one"):
        open_folder(twice, SHAPE, follow_links=True)


def test_links_to_nowhere_and_pipes_are_left_out_even_when_links_are_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(tmp_path, "1.png")
    (root / "nowhere.png").symlink_to(tmp_path / "gone.png")
    (root / "zero.png").symlink_to("/dev/zero")
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        assert listed(open_folder(root, SHAPE, follow_links=True).train, root) == ["1.png"]
    assert caplog.text.count("skipped broken links, pipes or devices") == 1


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; set data\.root"):
        open_folder(tmp_path / "nowhere", SHAPE)
    with pytest.raises(DataError, match=r"there are no images in .*; files must end in one of .*\.png"):
        open_folder(tmp_path, SHAPE)
    with pytest.raises(DataError, match="has test but no train folder"):
        open_folder(touch(tmp_path, "test/1.png"), SHAPE)


def test_a_class_called_train_does_not_hide_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "car/a.png", "plane/a.png", "train/a.png")
    with pytest.raises(DataError, match="car is beside the train folder"):
        open_folder(tmp_path, SHAPE)
