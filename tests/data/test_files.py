"""Image files of every kind are decoded, and the damaged ones are named, counted and skipped."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaezoo.config.errors import DataError
from vaezoo.data import ImageDataModule
from vaezoo.data.files import ImageFiles, decode
from vaezoo.data.on_disk import Unreadable

GREY, COLOUR = (1, 8, 8), (3, 8, 8)


def flat(mode: str, colour: Any, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def palette(transparency: int | None = None) -> Image.Image:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def deep(level: float, kind: type) -> Image.Image:
    return Image.fromarray(np.full((8, 8), level, kind))


@pytest.mark.parametrize(
    ("image", "suffix", "colour"),
    [
        (flat("1", 1), "png", (255, 255, 255)),
        (flat("L", 100), "png", (100, 100, 100)),
        (flat("LA", (0, 0)), "png", (255, 255, 255)),  # transparent black lies on white
        (flat("RGB", (1, 2, 3)), "png", (1, 2, 3)),
        (flat("RGBA", (255, 0, 0, 255)), "png", (255, 0, 0)),
        (flat("RGBA", (255, 0, 0, 51)), "png", (255, 204, 204)),  # a fifth of red over white
        (palette(), "png", (255, 0, 0)),
        (palette(transparency=1), "png", (255, 255, 255)),
        (palette(), "gif", (255, 0, 0)),
        (deep(65535, np.uint16), "png", (255, 255, 255)),
        (deep(257 * 200, np.uint16), "tif", (200, 200, 200)),
        (deep(257 * 200, np.int32), "tif", (200, 200, 200)),
        (deep(0.2, np.float32), "tif", (51, 51, 51)),
        (flat("CMYK", (0, 0, 0, 255)), "tif", (0, 0, 0)),
        (flat("CMYK", (0, 255, 255, 0)), "jpg", (255, 0, 0)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_mode_becomes_the_wanted_channels(
    image: Image.Image, suffix: str, colour: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    pixels = decode(str(path), COLOUR)
    assert pixels.shape == COLOUR
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.mean((1, 2)), colour, atol=3 if suffix == "jpg" else 0)
    luma = float(np.dot(colour, (0.299, 0.587, 0.114)))
    np.testing.assert_allclose(decode(str(path), GREY).mean(), luma, atol=3 if suffix == "jpg" else 1)


def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert np.array_equal(decode(str(tmp_path / "image.png"), (3, 24, 40)), pixels.transpose(2, 0, 1))


def test_the_middle_is_kept_and_the_shorter_side_resized(tmp_path: Path) -> None:
    bars = np.repeat(np.array([0, 255, 255, 0], np.uint8), 16)[None].repeat(32, 0)  # 32 high, 64 wide
    Image.fromarray(bars).save(tmp_path / "wide.png")
    # Columns beside an edge are blurred, on both sides alike.
    assert decode(str(tmp_path / "wide.png"), (1, 16, 16))[:, :, 1:-1].min() == 255
    row = decode(str(tmp_path / "wide.png"), (1, 16, 32))[0, 8]
    assert row[:7].max() == row[25:].max() == 0
    assert row[9:23].min() == 255


def test_a_fine_pattern_becomes_grey_and_no_moire(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    assert np.all(np.abs(decode(str(tmp_path / "board.png"), GREY).astype(int) - 127) <= 8)


def test_a_large_photograph_is_decoded_in_part_and_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def upright(image: Image.Image) -> Image.Image:
        sizes.append(image.size)
        return image.copy()

    monkeypatch.setattr("vaezoo.data.files.ImageOps.exif_transpose", upright)
    noise = np.random.default_rng(0).integers(0, 256, (25, 25, 3), np.uint8)
    photograph = Image.fromarray(noise).resize((1000, 1000), Image.Resampling.BICUBIC)
    photograph.save(tmp_path / "image.jpg", quality=95)
    with Image.open(tmp_path / "image.jpg") as image:
        image.convert("RGB").save(tmp_path / "whole.png")
    part, whole = (decode(str(tmp_path / name), (3, 64, 64)).astype(float) for name in ("image.jpg", "whole.png"))
    assert sizes == [(250, 250), (1000, 1000)]
    assert np.sqrt(np.mean((part - whole) ** 2)) < 1.5
    assert np.abs(part - whole).max() <= 6


def test_orientation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    left_dark = np.zeros((16, 16), np.uint8)
    left_dark[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter: the left side goes up
    Image.fromarray(left_dark).save(tmp_path / "turned.png", exif=exif)
    pixels = decode(str(tmp_path / "turned.png"), (1, 16, 16))[0]
    assert pixels[:8].max() == 0
    assert pixels[8:].min() == 255


def write_folder(folder: Path, count: int, broken: int) -> Path:
    """``count`` grey images in two class folders, of which the first ``broken`` are damaged in different ways."""
    damage = (lambda data: b"", lambda data: b"no image", lambda data: data[: len(data) // 2])
    for number in range(count):
        path = folder / ("even", "odd")[number % 2] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (10, 10), np.uint8)
        Image.fromarray(noise).save(path)
        if number < broken:
            path.write_bytes(damage[number % 3](path.read_bytes()))
    return folder


def open_folder(folder: Path, **changes: Any) -> ImageDataModule:
    arguments: dict[str, Any] = {"image_size": 8, "channels": 1, "val_size": 150, "test_size": 150, "num_workers": 0}
    return ImageDataModule(source="image_folder", root=str(folder), **{**arguments, **changes})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_are_named_counted_and_skipped(
    in_memory: bool, workers: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path, 500, broken=1)
    data = open_folder(tmp_path, in_memory=in_memory, num_workers=workers, batch_size=60)
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        data.setup()
        for _ in range(2):
            loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
            seen = sum(len(batch.labels) for loader in loaders for batch in loader.stored())
            assert seen == 499
    assert data.describe()["skipped"] == 1
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert str(tmp_path / "even" / "0000.png") in warnings[0]


@pytest.mark.parametrize("in_memory", [True, False])
def test_more_than_a_hundredth_damaged_is_an_error_that_lists_them(in_memory: bool, tmp_path: Path) -> None:
    write_folder(tmp_path, 500, broken=60)
    data = open_folder(tmp_path, in_memory=in_memory, batch_size=200)
    message = (
        r"\d+ of (150|200) image files cannot be read, which is more than 1%: .*png, .* and \d+ more; repair or remove"
    )

    def read() -> None:
        data.setup()
        for batch in data.train_dataloader().stored():
            assert len(batch.labels) > 0

    with pytest.raises(DataError, match=message):
        read()


def test_a_batch_that_cannot_be_read_at_all_does_not_go_missing(tmp_path: Path) -> None:
    write_folder(tmp_path, 500, broken=1)
    data = open_folder(tmp_path, in_memory=False, val_size=10, test_size=10, batch_size=1)
    sizes = [len(batch.labels) for batch in data.train_dataloader().stored()]
    assert sizes == [1] * 480


def test_examples_pass_over_damaged_files(tmp_path: Path) -> None:
    write_folder(tmp_path, 500, broken=1)
    data = open_folder(tmp_path, in_memory=False, val_size=150, test_size=200)
    for split, count in (("train", 149), ("val", 149), ("test", 199)):  # one less than there are files
        x, y = data.examples(count, split)
        assert len(x) == len(y) == count


def test_a_decompression_bomb_is_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat("L", 0, (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    decoded = ImageFiles.of([tmp_path / "bomb.png"], torch.tensor([0]), GREY).__getitems__([0])
    assert "DecompressionBombError" in decoded.failed[0][1]


def test_labels_stay_with_their_images_when_some_are_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path, 500, broken=1)
    memory, stream = (open_folder(tmp_path, in_memory=in_memory) for in_memory in (True, False))
    odd = {decode(str(path), GREY).tobytes() for path in (tmp_path / "odd").iterdir()}
    for split in ("train", "val", "test"):
        (x, y), (other_x, other_y) = memory.examples(500, split), stream.examples(500, split)
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
        pixels = x.mul(255).round().to(torch.uint8)
        assert y.tolist() == [int(image.numpy().tobytes() in odd) for image in pixels]


def test_unreadable_files_are_counted_once() -> None:
    files = ImageFiles.of([Path(f"{number}.png") for number in range(100)], torch.zeros(100), GREY)
    unreadable = Unreadable(files)
    unreadable.add([(3, "gone")])
    unreadable.add([(3, "gone")])
    unreadable.check()
    unreadable.add([(4, "gone")])
    with pytest.raises(DataError, match=r"2 of 100 image files .* 3\.png, 4\.png; repair"):
        unreadable.check()
