"""Levels of image files: what becomes black and white is found by a look, said, kept, and the same everywhere."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import ImageDataModule, ranges
from vaezoo.data.files import decode
from vaezoo.data.named_images import images_at
from vaezoo.data.ranges import bits

SHAPE = (1, 8, 8)
GREY = np.arange(64).reshape(8, 8) / 63  # black to white


def folder(root: Path, high: float, kind: type, count: int = 12, suffix: str = "png", low: float = 0) -> Path:
    """Images from ``low`` to ``high`` of one kind of numbers."""
    root.mkdir(exist_ok=True)
    for number in range(count):
        Image.fromarray((low + GREY * (high - low)).astype(kind)).save(root / f"{kind.__name__}{number}.{suffix}")
    return root


def images(root: Path, **changes: Any) -> ImageDataModule:
    arguments: dict[str, Any] = {"image_size": 8, "channels": 1, "val_size": 2, "test_size": 2, "num_workers": 0}
    return ImageDataModule(source="image_folder", root=str(root), **{**arguments, **changes})


@pytest.mark.parametrize(
    ("kind", "suffix", "high", "found"),
    [
        (np.uint16, "png", 4095, [0, 4095]),
        (np.uint16, "png", 4010, [0, 4095]),
        (np.uint16, "tif", 1000, [0, 1023]),
        (np.uint16, "png", 1, [0, 1]),
        (np.uint16, "png", 65535, "full"),
        (np.uint16, "png", 40000, "full"),
        (np.int32, "tif", 100000, [0, 131071]),
        (np.float32, "tif", 1.0, "full"),
        (np.float32, "tif", 0.4, "full"),
        (np.float32, "tif", 255.0, [0, 255]),
        (np.float32, "tif", 4000.5, [0, 4095]),
        (np.uint8, "png", 255, "full"),
        (np.uint8, "png", 1, "full"),
    ],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_the_fewest_bits_that_hold_the_levels_are_taken(
    kind: type, suffix: str, high: float, found: Any, in_memory: bool, tmp_path: Path
) -> None:
    data = images(folder(tmp_path, high, kind, suffix=suffix), in_memory=in_memory)
    x, _ = data.examples(2)
    assert data.range == data.describe()["range"] == found
    top = found[1] if found != "full" else {"uint16": 65535, "float32": 1, "uint8": 255}[kind.__name__]
    assert float(x.max()) == pytest.approx(high / top, abs=1 / 255)
    again = images(tmp_path, in_memory=in_memory, range=data.range)
    assert torch.equal(again.examples(2)[0], x)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(
    ("kind", "suffix", "levels"),
    [
        (np.uint16, "png", [0, 4095]),
        (np.uint16, "png", "full"),
        (np.uint16, "tif", [100, 3000]),
        (np.int32, "tif", [0, 131071]),
        (np.int32, "tif", [-1000, 1000]),
        (np.float32, "tif", "full"),
        (np.float32, "tif", [-0.5, 0.75]),
    ],
)
def test_levels_of_more_than_eight_bits_are_exact(
    kind: type, suffix: str, levels: Any, fit: str, tmp_path: Path
) -> None:
    low, high = ((0, 1) if kind is np.float32 else (0, 65535)) if levels == "full" else levels
    values = (low + np.random.default_rng(0).random((12, 64, 64)) * (high - low)).astype(kind)
    values[:, 0, :2] = [kind(low), kind(high)]
    for number, each in enumerate(values):
        Image.fromarray(each).save(tmp_path / f"{number:02}.{suffix}")
    wanted = np.clip((values.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    for in_memory in (True, False):
        data = images(tmp_path, range=levels, image_size=64, in_memory=in_memory, fit=fit)
        named = data.named_images("train")
        (batch,) = named.batches(100)
        assert batch.names is not None
        places = [int(Path(name).stem) for name in batch.names]
        assert np.array_equal(batch.x[:, 0].numpy(), wanted[places])
    again = images_at(tmp_path, (1, 64, 64), levels=None if levels == "full" else (low, high), fit=fit)
    (batch,) = again.batches(100)
    assert np.array_equal(batch.x[:, 0].numpy(), wanted)


@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_all_depths_are_stored_alike_and_exact(channels: int, tmp_path: Path) -> None:
    grey = np.arange(64).reshape(8, 8) * 4
    kinds = {np.uint8: (grey, 255), np.uint16: (grey * 257 + 101, 65535), np.float32: (grey / 255 + 0.001, 1)}
    for number in range(12):
        kind = list(kinds)[number % 3]
        Image.fromarray(kinds[kind][0].astype(kind)).save(tmp_path / f"{number:02}.tif")
    data = images(tmp_path, range="full", channels=channels, val_size=2, test_size=2)
    (batch,) = data.named_images("train").batches(100)
    assert batch.names is not None
    for name, x in zip(batch.names, batch.x, strict=True):
        values, full = list(kinds.values())[int(Path(name).stem) % 3]
        wanted = torch.from_numpy(values / full).float().expand(channels, 8, 8)
        torch.testing.assert_close(x, wanted, atol=1e-7, rtol=0)


@pytest.mark.parametrize("low", [-10, 20])
def test_padding_of_files_of_eight_bits_among_deeper_ones_is_black(low: int, tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(np.full((8, 4), 200, (np.uint8, np.uint16)[number % 2])).save(tmp_path / f"{number}.png")
    x, _ = images(tmp_path, range=[low, 200], fit="pad").examples(8, "train")
    assert (x[:, 0, :, 0] == 0).all()
    assert (x[:, 0, :, 3] == 1).all()


def test_padding_is_black_whatever_the_levels(tmp_path: Path) -> None:
    for number in range(12):
        Image.fromarray(np.full((8, 4), 3000, np.uint16)).save(tmp_path / f"{number}.png")
    x, _ = images(tmp_path, range=[1000, 3000], fit="pad").examples(1)
    assert x[0, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_resized_levels_are_those_of_eight_bits_but_finer(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).integers(0, 256, (12, 20, 30)).astype(np.uint16) * 257
    for name, kind in (("deep", np.uint16), ("plain", np.uint8)):
        (tmp_path / name).mkdir()
        for number, each in enumerate(fine):
            Image.fromarray(each if kind is np.uint16 else (each // 257).astype(np.uint8)).save(
                tmp_path / name / f"{number:02}.png"
            )
    deep, plain = (images(tmp_path / name).examples(8, "train")[0] for name in ("deep", "plain"))
    assert 0 < float((deep - plain).abs().max()) <= 1.01 / 255


def test_twelve_bits_in_sixteen_are_not_black_and_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = images(folder(tmp_path, 4095, np.uint16))
    with caplog.at_level(logging.INFO, logger="vaezoo"):
        data.setup()
        data.setup()
    x, _ = data.examples(1)
    assert torch.allclose(x[0, 0], torch.from_numpy(GREY).float(), atol=1 / 255)
    assert [record.getMessage() for record in caplog.records] == [
        "levels      the largest level of 8 16-bit training images is 4095: 0 to 4095 become black to white"
        " (data.range)"
    ]


def test_only_the_first_process_says_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    data = images(folder(tmp_path, 4095, np.uint16))
    with caplog.at_level(logging.INFO, logger="vaezoo"):
        data.setup()
    assert data.range == [0, 4095]
    assert not caplog.records


@pytest.mark.parametrize(
    ("high", "said"),
    [
        (1, "is 1 of 255, as in masks saved as 0 and 1: they are almost black; data.range=[0,1] makes 1 white"),
        (15, "is 15 of 255: they are almost black; data.range=[0,15] makes 15 white"),
        (0, "is 0: all of them are black"),
        (64, None),
        (255, None),
    ],
)
def test_dark_files_of_eight_bits_are_said(
    high: int, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = images(folder(tmp_path, high, np.uint8))
    with caplog.at_level(logging.INFO, logger="vaezoo"):
        data.setup()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (said is not None)
    assert said is None or said in messages[0]


def test_masks_of_zeros_and_ones_can_be_made_visible(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = images(folder(tmp_path, 1, np.uint8), range=[0, 1])
    with caplog.at_level(logging.INFO, logger="vaezoo"):
        assert data.examples(1)[0].unique().tolist() == [0, 1]
    assert not caplog.records


@pytest.mark.parametrize("levels", [[100, 1100], [-1000, 1000]])
def test_levels_beyond_the_given_ones_are_black_and_white(levels: list[float], tmp_path: Path) -> None:
    low, high = levels
    folder(tmp_path, high + 500, np.int32, suffix="tif", low=low - 500)
    x, _ = images(tmp_path, range=levels).examples(1)
    values = (low - 500 + GREY * (high - low + 1000)).astype(np.int32)
    wanted = np.clip((values - low) / (high - low), 0, 1)
    assert np.allclose(x[0, 0].numpy(), wanted, atol=0.5 / 255 + 1e-6)


def test_negative_levels_need_a_range(tmp_path: Path) -> None:
    folder(tmp_path, 3000, np.int32, suffix="tif", low=-1000)
    with pytest.raises(DataError, match=r"are -1000 to 3000, .*; set data\.range=\[LOW,HIGH\]"):
        images(tmp_path).setup()
    with pytest.raises(DataError, match=r"its levels are -1000 to 3000, not 0 to 65535; set data\.range"):
        images(tmp_path, range="full").setup()


def test_files_of_several_depths_need_a_decision(tmp_path: Path) -> None:
    folder(tmp_path, 255, np.uint8)
    folder(tmp_path, 4095, np.uint16)
    with pytest.raises(DataError, match=r"both 8-bit images .* and 16-bit images .* only extend to 4095; .*range=full"):
        images(tmp_path).setup()
    assert images(tmp_path, range="full").examples(1)[0].shape == (1, *SHAPE)
    with pytest.raises(
        DataError, match=r"image files cannot be read.*8 bits per channel, but data\.range extends|^data"
    ):
        images(tmp_path, range=[0, 4095]).setup()


def test_a_range_that_the_files_cannot_have_is_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(tmp_path, 255, np.uint8)
    with pytest.raises(
        DataError, match=r"^data\.range extends to 4095, but Pillow reads .*png with 8 bits per channel"
    ):
        images(tmp_path, range=[0, 4095]).setup()
    assert not caplog.records


def test_files_of_several_depths_that_use_all_of_them_are_taken_as_they_are(tmp_path: Path) -> None:
    folder(tmp_path, 255, np.uint8)
    folder(tmp_path, 65535, np.uint16)
    data = images(tmp_path)
    assert data.examples(2)[0].amax((1, 2, 3)).tolist() == [1, 1]
    assert data.range == "full"


def test_validation_and_test_images_do_not_decide(tmp_path: Path) -> None:
    for split, high in (("train", 1000), ("val", 4000), ("test", 4000)):
        (tmp_path / split).mkdir(parents=True)
        folder(tmp_path / split, high, np.uint16)
    data = images(tmp_path)
    assert data.examples(1)[0].max() == 1
    assert data.range == [0, 1023]


def test_few_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MOST_OPENED", 3)
    opened: list[str] = []
    monkeypatch.setattr(ranges, "opened", lambda path, side: opened.append(path))
    images(folder(tmp_path, 4095, np.uint16)).setup()
    assert len(opened) == 3


def test_damaged_files_do_not_matter(tmp_path: Path) -> None:
    folder(tmp_path, 4095, np.uint16, count=300)
    (tmp_path / "uint160.png").write_bytes(b"no image")
    data = images(tmp_path)
    data.setup()
    assert data.range == [0, 4095]


def test_colours_and_palettes_keep_their_hue_under_a_range(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (10, 20, 0)).save(tmp_path / "a.png")
    assert decode(str(tmp_path / "a.png"), (3, 8, 8), (0, 20))[:, 0, 0].tolist() == [128, 255, 0]


@pytest.mark.parametrize("level", [(1, 1), (2, 2), (3, 2), (255, 8), (256, 9), (4095, 12), (4095.5, 13), (0.3, 1)])
def test_bits_hold_a_level(level: tuple[float, int]) -> None:
    assert bits(level[0]) == level[1]


@pytest.mark.parametrize(
    "wrong", ["all", [1], [0, 0], [5, 1], [0, float("nan")], [0, float("inf")], ["a", "b"], 3, True]
)
def test_a_wrong_range_is_refused(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.range must be auto, full or \[LOW,HIGH\]"):
        images(tmp_path, range=wrong)


def test_a_range_is_for_image_folders() -> None:
    with pytest.raises(ConfigError, match=r"data\.range is for your own images.*source=digits; leave it out"):
        ImageDataModule(source="digits", image_size=8, channels=1, val_size=9, range=[0, 16])
