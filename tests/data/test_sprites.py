"""Sprites: the lattice, the outlines against brute force, and the cache."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vaezoo.data import ImageDataModule, sprites


def images(cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.unpackbits(sprites.render(cells), axis=1).reshape(-1, 64, 64)


def cell(*classes: int) -> int:
    return int(np.ravel_multi_index(classes, sprites.SIZES))


def outline(shape: int) -> list[tuple[float, float]]:
    """Corners at scale 1, from the published fit of the shapes, v downwards."""
    if shape == 0:
        return [(-9.597, -9.597), (9.597, -9.597), (9.597, 9.597), (-9.597, 9.597)]
    count = 64 if shape == 1 else 128
    angles = [2 * math.pi * number / count for number in range(count)]
    if shape == 1:
        return [(12.78 * math.cos(angle), 7.22 * math.sin(angle)) for angle in angles]
    heart = (13, -5, -2, -1)
    return [
        (
            9.6 * math.sin(angle) ** 3,
            -0.6625 * sum(factor * math.cos((number + 1) * angle) for number, factor in enumerate(heart)) - 1.44,
        )
        for angle in angles
    ]


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Whether a ray from the point crosses the polygon an odd number of times."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            crossings += 1
    return crossings % 2 == 1


def brute_force(classes: list[int]) -> NDArray[np.uint8]:
    shape, scale, angle = classes[0], 0.5 + 0.1 * classes[1], 2 * math.pi * classes[2] / 39
    centre_x, centre_y = (16 + 32 * position / 31 for position in classes[3:])
    corners = [
        (
            centre_x + scale * (u * math.cos(angle) + v * math.sin(angle)),
            centre_y + scale * (-u * math.sin(angle) + v * math.cos(angle)),
        )
        for u, v in outline(shape)
    ]
    pixels = [[inside(column + 0.5, row + 0.5, corners) for column in range(64)] for row in range(64)]
    return np.array(pixels, np.uint8)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_sprites_are_the_polygons_of_their_factors(shape: int) -> None:
    chosen = np.random.default_rng(shape).choice(sprites.COUNT // 3, 4) + shape * (sprites.COUNT // 3)
    for drawn, classes in zip(images(chosen), sprites.classes_of(chosen), strict=True):
        assert np.array_equal(drawn, brute_force(classes.tolist()))


def test_first_and_last_orientation_are_the_same_picture_and_no_others() -> None:
    hearts = images(np.array([cell(2, 5, orientation, 7, 9) for orientation in range(40)]))
    assert np.array_equal(hearts[0], hearts[39])
    assert len(np.unique(hearts.reshape(40, -1), axis=0)) == 39


def test_position_moves_right_and_down_and_pos_y_is_fastest() -> None:
    left, right, down = images(np.array([cell(0, 0, 0, 0, 0), cell(0, 0, 0, 31, 0), cell(0, 0, 0, 0, 31)]))
    assert np.array_equal(np.roll(left, 32, axis=1), right)  # from column 16 to 48
    assert np.array_equal(np.roll(left, 32, axis=0), down)
    assert cell(0, 0, 0, 0, 1) == 1
    assert sprites.classes_of(np.array([1, 32, 1024, 40960, 245760])).tolist() == [
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0],
    ]


def test_turning_is_counter_clockwise_on_the_screen() -> None:
    # Ten of 39 steps are a little more than a quarter turn: the ellipse, once wide, stands upright.
    for orientation, leans_up_right in ((3, True), (36, False)):
        ellipse = images(np.array([cell(1, 5, orientation, 16, 16)]))[0]
        rows, columns = np.nonzero(ellipse)
        assert (np.corrcoef(rows, columns)[0, 1] < 0) == leans_up_right  # rows grow downwards


def test_pixels_on_are_the_area_of_the_shape() -> None:
    areas = (4 * 9.597**2, 32 * math.sin(2 * math.pi / 64) * 12.78 * 7.22)
    for shape, area in enumerate(areas):
        chosen = np.random.default_rng(0).choice(40960, 500) + cell(shape, 5, 0, 0, 0)
        assert abs(images(chosen).sum() / 500 - area) / area < 0.005


def test_any_subset_is_drawn_as_it_is_in_any_other() -> None:
    chosen = np.random.default_rng(1).permutation(sprites.COUNT)[:600]
    assert np.array_equal(sprites.render(chosen)[::7], sprites.render(chosen[::7]))


def test_factors_name_every_class_of_the_lattice() -> None:
    assert tuple(factor.name for factor in sprites.FACTORS) == ("shape", "scale", "orientation", "pos_x", "pos_y")
    assert tuple(len(factor.values) for factor in sprites.FACTORS) == sprites.SIZES
    assert sprites.FACTORS[1].values == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert sprites.FACTORS[2].values[-1] == 2 * math.pi
    assert all(type(value) is float for factor in sprites.FACTORS[1:] for value in factor.values)


def make(root: Path, limit: int | None) -> ImageDataModule:
    return ImageDataModule(
        source="sprites", image_size=64, channels=1, val_size=100, test_size=100, limit=limit, root=str(root)
    )


def test_a_limit_needs_no_cache_and_leaves_validation_as_it_is(tmp_path: Path) -> None:
    small, large = make(tmp_path, 50), make(tmp_path, 80)
    small.prepare_data()
    assert list(tmp_path.iterdir()) == []
    for split in ("val", "test"):
        (x, y), (other_x, other_y) = small.examples(100, split), large.examples(100, split)
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_batches_hold_binary_images_and_five_factors(tmp_path: Path) -> None:
    data = make(tmp_path, 50)
    data.setup()
    batch = next(data.train_dataloader().stored())
    assert batch.images.shape == (50, 512)  # packed until they are on the device
    x, y = data.on_after_batch_transfer(batch, 0)
    assert x.shape == (50, 1, 64, 64)
    assert y.shape == (50, 5)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    cells = np.ravel_multi_index(tuple(y.T.numpy()), sprites.SIZES)
    assert np.array_equal(x[:, 0].numpy(), images(cells))


@pytest.fixture
def tiny_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache holds only squares of the smallest scale and the first orientation."""
    monkeypatch.setattr(sprites, "COUNT", 1024)


@pytest.mark.usefixtures("tiny_lattice")
def test_the_cache_is_written_once_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sprites.write_cache(tmp_path)
    assert [path.name for path in (tmp_path / "sprites").iterdir()] == [sprites.CACHE_NAME]
    chosen = np.array([1000, 3, 500, 3])
    drawn = sprites.render(chosen)
    monkeypatch.setattr(sprites, "render", lambda cells: pytest.fail("drawn although there is a cache"))
    sprites.write_cache(tmp_path)
    assert np.array_equal(sprites.Lattice(tmp_path, chosen).load().pixels.numpy(), drawn)


@pytest.mark.usefixtures("tiny_lattice")
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:10], lambda data: b""])
def test_a_truncated_cache_is_noticed_and_made_anew(damage: object, tmp_path: Path) -> None:
    sprites.write_cache(tmp_path)
    cache = tmp_path / "sprites" / sprites.CACHE_NAME
    whole = cache.read_bytes()
    cache.write_bytes(damage(whole))  # type: ignore[operator]
    assert sprites.open_cache(tmp_path) is None
    sprites.write_cache(tmp_path)
    assert cache.read_bytes() == whole


@pytest.mark.usefixtures("tiny_lattice")
def test_a_root_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "file"
    root.write_text("no folder")
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        sprites.write_cache(root)
    assert len(caplog.records) == 1
    assert "cannot be cached" in caplog.text
    assert len(sprites.Lattice(root, np.arange(5)).load()) == 5


@pytest.mark.nightly
def test_the_whole_set_has_the_known_mean_and_number_of_distinct_images() -> None:
    packed = sprites.render(np.arange(sprites.COUNT))
    assert sum(int(np.unpackbits(part).sum()) for part in np.array_split(packed, 100)) / packed.size / 8 == (
        pytest.approx(0.04249293, abs=5e-9)  # the published file has 0.04249442
    )
    assert len(np.unique(packed.view("V512"))) == 715_728
