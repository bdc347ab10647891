"""Images of other shapes are cropped, padded or stretched, alike from files and from tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaezoo.config.errors import ConfigError
from vaezoo.data import ImageDataModule
from vaezoo.data.files import decode
from vaezoo.data.fitting import FITS, scaled_size
from vaezoo.data.pixels import fit

BARS = np.repeat(np.array([40, 200, 200, 80], np.uint8), 16)[None].repeat(32, 0)  # 32 high, 64 wide


def from_file(how: str, folder: Path) -> np.ndarray:
    Image.fromarray(BARS).save(folder / "wide.png")
    return decode(str(folder / "wide.png"), (1, 16, 16), fit=how)[0]


def from_tensor(how: str, _: Path) -> np.ndarray:
    return fit(torch.from_numpy(BARS)[None, None], (1, 16, 16), how)[0, 0].numpy()


WAYS = pytest.mark.parametrize("made", [from_file, from_tensor])


@WAYS
def test_crop_keeps_the_middle(made: object, tmp_path: Path) -> None:
    assert made("crop", tmp_path)[:, 1:-1].min() == 200  # type: ignore[operator]


@WAYS
def test_pad_keeps_everything_between_black_bars(made: object, tmp_path: Path) -> None:
    pixels = made("pad", tmp_path)  # type: ignore[operator]
    assert pixels[:4].max() == pixels[12:].max() == 0
    assert [pixels[8, column] for column in (1, 6, 9, 14)] == [40, 200, 200, 80]


@WAYS
def test_stretch_fills_the_square(made: object, tmp_path: Path) -> None:
    pixels = made("stretch", tmp_path)  # type: ignore[operator]
    for row in (0, 15):
        assert [pixels[row, column] for column in (1, 6, 9, 14)] == [40, 200, 200, 80]


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (17, 31), (16, 16)])
def test_every_shape_is_fitted(how: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = torch.full((1, 1, *size), 100, dtype=torch.uint8)
    Image.fromarray(image[0, 0].numpy()).save(tmp_path / "a.png")
    file, tensor = decode(str(tmp_path / "a.png"), (3, 16, 9), fit=how), fit(image, (3, 16, 9), how)[0]
    assert file.shape == tuple(tensor.shape) == (3, 16, 9)
    assert file.max() == tensor.max() == 100
    assert file.min() == tensor.min() == (0 if how == "pad" and size[0] / size[1] != 16 / 9 else 100)


def test_no_side_is_scaled_to_nothing() -> None:
    assert scaled_size((1, 1000), (16, 16), "pad") == (1, 16)
    assert scaled_size((1, 1000), (16, 16), "crop") == (16, 16000)
    assert scaled_size((1, 1000), (16, 16), "stretch") == (16, 16)


def test_the_setting_reaches_images_in_memory_and_on_disk() -> None:
    arguments = {"source": "digits", "image_size": [16, 32], "channels": 1, "val_size": 297, "test_size": 300}
    crop, pad, stretch = (ImageDataModule(fit=how, **arguments).examples(50)[0] for how in FITS)
    assert pad[..., :8].max() == pad[..., -8:].max() == 0
    assert stretch[..., 2:-2].max() == 1
    assert not torch.equal(crop, stretch)


def test_a_wrong_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.fit must be one of crop, pad, stretch, got 'cover'"):
        ImageDataModule(source="digits", image_size=8, channels=1, val_size=9, fit="cover")
