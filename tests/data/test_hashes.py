"""What is downloaded is held against known hashes; what is another file is refused and does not stay."""

import gzip
import io
import logging
import struct
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets
from torchvision.datasets import MNIST, SVHN, utils

from vaezoo.config import hydra_config
from vaezoo.config.errors import DataError
from vaezoo.data import ImageDataModule, hashes

LABELS = struct.pack(">2i", 0x801, 4) + bytes(4)
IMAGES = struct.pack(">4i", 0x803, 4, 28, 28) + bytes(4 * 28 * 28)


def swapped(name: str) -> bytes:
    """A file of MNIST as someone on the way would send it."""
    return gzip.compress(LABELS if "labels" in name else IMAGES, mtime=0)


class Answer(io.BytesIO):
    url = None

    @property
    def length(self) -> int:
        return len(self.getvalue())


@pytest.fixture
def swapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network on which every file is another one."""

    def answer(request: Any, **_: Any) -> Answer:
        return Answer(swapped(request.full_url))

    monkeypatch.setattr(utils.urllib.request, "urlopen", answer)


def make(root: Path, dataset: str = "MNIST") -> ImageDataModule:
    size = {"image_size": 28, "channels": 1} if dataset == "MNIST" else {"image_size": 32, "channels": 3}
    return ImageDataModule(source="torchvision", dataset=dataset, root=str(root), val_size=1, **size)  # type: ignore[arg-type]


@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize("dataset", ["MNIST", "SVHN", "CIFAR10"])
def test_a_file_with_another_md5_is_refused_and_removed(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded from .*not found or corrupted"):
        make(tmp_path, dataset).prepare_data()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("swapping")
def test_files_that_lay_there_are_warned_of_and_never_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in hashes.SHA256["MNIST"]:
        (folder / name).write_bytes(LABELS if "labels" in name else IMAGES)
    with caplog.at_level(logging.WARNING, logger="vaezoo"):
        make(tmp_path).prepare_data()
    assert caplog.text.count("is not the published file of MNIST") == 4
    assert len(list(folder.iterdir())) == 4


def test_real_mnist_is_the_published_one(real_data: Path) -> None:
    assert hashes.differing(MNIST, real_data / "MNIST" / "raw") == []


def test_every_data_set_with_a_config_is_checked_by_torchvision() -> None:
    texts = (
        (hydra_config.CONFIGS / "data" / f"{name}.yaml").read_text().splitlines()
        for name in hydra_config.options("data")
    )
    names = [line.split()[1] for lines in texts for line in lines if line.startswith("dataset:")]
    assert {"MNIST", "CelebA", "SVHN"} <= set(names)
    for name in names:
        known = hashes.md5_of(getattr(datasets, name))
        assert known
        assert all(md5 and len(md5) == 32 for md5 in known.values())
    assert hashes.md5_of(SVHN).keys() == {"train_32x32.mat", "test_32x32.mat"}
