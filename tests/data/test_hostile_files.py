"""Image folders from strangers: what is no image is left out or counted as unreadable, and memory stays bounded."""

import io
import logging
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torchvision.datasets.utils import extract_archive

from vaezoo.config.errors import DataError
from vaezoo.data import ImageDataModule, files
from vaezoo.data.downloads import unpacking_inside
from vaezoo.data.files import ImageFiles, decode
from vaezoo.data.folders import open_folder

SHAPE = (1, 8, 8)
EVIL = "\x1b[2J\n<img src=x onerror=alert(1)>"


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these chunks, each with its sum."""
    named = [(kind + data, len(data)) for kind, data in chunks]
    parts = (struct.pack(">I", size) + content + struct.pack(">I", zlib.crc32(content)) for content, size in named)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width: int, height: int) -> tuple[bytes, bytes]:
    """Of an image with a byte of grey for each pixel."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)


def pixels(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(b"\0" * (width + 1) * height)


def failure(path: Path) -> str:
    """Why a file cannot be read; fails if it can."""
    decoded = ImageFiles.of([path], torch.zeros(1), SHAPE).__getitems__([0])
    assert len(decoded.images) == 0
    ((_, reason),) = decoded.failed
    return reason


def sound(root: Path, count: int = 200) -> Path:
    root.mkdir(exist_ok=True)
    for at in range(count):
        Image.new("L", (8, 8), at % 256).save(root / f"{at:03d}.png")
    return root


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (100_000, 100_000, "pixels"),
        (20_000, 5_000, "20000x5000 pixels, but at most 67,108,864 are allowed"),
        (0, 5, ""),
    ],
)
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    width: int, height: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.png").write_bytes(png(header(width, height), pixels(100, 100), (b"IEND", b"")))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was decoded"))
    assert said in failure(tmp_path / "bomb.png")


@pytest.mark.parametrize(("width", "height"), [(100_000, 1), (1, 100_000), (100_000, 8)])
def test_a_very_long_image_is_no_larger_than_its_pixels(width: int, height: int, tmp_path: Path) -> None:
    (tmp_path / "long.png").write_bytes(png(header(width, height), pixels(width, height), (b"IEND", b"")))
    assert decode(str(tmp_path / "long.png"), SHAPE).shape == SHAPE


def test_only_the_first_of_many_frames_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.new("L", (8, 8), at % 256) for at in range(300)]
    for name in ("a.gif", "a.tif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / name) as opened:
            kind = type(opened)
        with monkeypatch.context() as patch:
            seek = kind.seek

            def first(image: Image.Image, frame: int, seek: object = seek) -> None:
                assert frame == 0
                seek(image, frame)  # type: ignore[operator]

            patch.setattr(kind, "seek", first)
            assert decode(str(tmp_path / name), SHAPE).max() <= 1


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_chunk_that_grows_in_a_png_is_not_kept(kind: bytes, tmp_path: Path) -> None:
    grown = zlib.compress(b"\0" * 2**26)
    chunk = {b"zTXt": b"k\0\0" + grown, b"iTXt": b"k\0\1\0\0\0" + grown, b"iCCP": b"k\0\0" + grown}[kind]
    path = tmp_path / "a.png"
    path.write_bytes(png(header(8, 8), (kind, chunk), pixels(8, 8), (b"IEND", b"")))
    decoded = ImageFiles.of([path], torch.zeros(1), SHAPE).__getitems__([0])
    if not decoded.failed:
        with Image.open(path) as image:
            assert sum(len(value) for value in image.info.values() if isinstance(value, bytes | str)) < 2**21


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"<html>", b"BM" + b"\xff" * 9]
)
def test_what_is_cut_off_or_another_thing_is_unreadable(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert failure(tmp_path / "a.png")


def test_a_program_for_printers_is_not_run_for_its_picture(tmp_path: Path) -> None:
    """Pillow goes by content, and would hand PostScript to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "EPS"
    assert "cannot identify image file" in failure(tmp_path / "a.png")


def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.gif").open("wb") as file:
        file.truncate(2**40)
    assert "1,099,511,627,776 bytes" in failure(tmp_path / "a.gif")


def test_pipes_and_devices_are_left_out_and_never_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = sound(tmp_path / "images", 3)
    os.mkfifo(root / "pipe.png")
    (root / "zero.png").symlink_to("/dev/zero")
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        assert len(open_folder(root, SHAPE).train) == 3
    assert "broken links, pipes or devices" in caplog.text
    assert "it is not a file" in failure(root / "pipe.png")
    assert "it is not a file" in failure(root / "zero.png")


def test_links_out_of_the_folder_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside, root = sound(tmp_path / "outside", 1), sound(tmp_path / "root", 2)
    (root / "a").mkdir()
    (root / "a" / "out.png").symlink_to(outside / "000.png")
    (root / "a" / "up.png").symlink_to("../../outside/000.png")
    (root / "a" / "broken.png").symlink_to("nowhere.png")
    (root / "a" / "in.png").symlink_to(root / "001.png")
    (root / "b").symlink_to(outside, target_is_directory=True)
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        train = open_folder(root, SHAPE).train
    assert isinstance(train, ImageFiles)
    assert [os.path.basename(train.path(at)) for at in range(len(train))] == ["000.png", "001.png", "in.png"]
    assert all(name in caplog.text for name in ("out.png", "up.png", "broken.png", str(root / "b")))


def test_names_reach_terminals_and_tables_without_control_characters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", EVIL.replace("/", "")):
        sound(tmp_path / "images" / name if (tmp_path / "images").exists() else tmp_path / "images", 0)
        (tmp_path / "images" / name).mkdir(exist_ok=True)
        sound(tmp_path / "images" / name, 150)
    (tmp_path / "images" / "a" / f"{EVIL}.png").write_bytes(b"nothing")
    (tmp_path / "images" / "a" / os.fsdecode(b"\xff.png")).symlink_to("/etc/passwd")
    data = ImageDataModule(
        source="image_folder", root=str(tmp_path / "images"), image_size=8, channels=1, val_size=0.2, test_size=0.2
    )
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        data.setup()
    assert "\\x1b[2J\\n<img" in caplog.text
    assert "\\udcff.png" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert [str(value).isprintable() for value in data.factors[0].values] == [True, True]


def test_bad_files_beyond_one_in_a_hundred_are_an_error_with_printable_names(tmp_path: Path) -> None:
    root = sound(tmp_path / "images", 100)
    for at in range(12):
        (root / f"{EVIL}{at}.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="image files cannot be read") as caught:
        ImageDataModule(
            source="image_folder", root=str(root), image_size=8, channels=1, val_size=0.2, test_size=0.2
        ).setup()
    assert str(caught.value).isprintable()


def test_a_picture_that_takes_more_memory_than_there_is_counts_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    sound(tmp_path, 1)
    monkeypatch.setattr(files.ImageOps, "fit", exhausted)
    assert "MemoryError" in failure(tmp_path / "000.png")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_unpacks_into_its_folder_alone(kind: str, tmp_path: Path) -> None:
    """torchvision unpacks what it has downloaded and checked, within ``unpacking_inside``."""
    archive, names = tmp_path / f"data.{kind}", ("../evil.txt", str(tmp_path / "absolute.txt"), "a/../../up.txt")
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.writestr(name, "evil")
    else:
        with tarfile.open(archive, "w:gz") as packed_:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 4
                packed_.addfile(member, io.BytesIO(b"evil"))
    (tmp_path / "out").mkdir()
    try:
        with unpacking_inside():
            extract_archive(str(archive), str(tmp_path / "out"))
    except tarfile.TarError:
        assert kind == "tar.gz"
    assert {path.name for path in tmp_path.iterdir()} == {"out", archive.name}


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([np.nan, 0, 0, 0, 0, 0, 1, 1], "are not finite"),
        ([np.inf, -np.inf, 0, 0, 0, 0, 1, 1], "are not finite"),
        ([1e38, -1e38, 0, 0, 0, 0, 1, 1], "its levels are -1e+38 to 1e+38, not 0 to 1"),
    ],
)
def test_levels_that_mean_nothing_make_a_file_unreadable(levels: list[float], said: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([levels] * 8, np.float32)).save(tmp_path / "a.tif")
    assert said in failure(tmp_path / "a.tif")
