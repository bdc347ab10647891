"""Downloads: only what is missing, and a failure is one sentence that helps."""

import gzip
import re
import socket
import struct
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, MNIST, SVHN, CelebA, utils

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.data import ImageDataModule, downloads


def make(root: Path, dataset: str = "MNIST", **changes: Any) -> ImageDataModule:
    arguments: dict[str, Any] = {"image_size": 28, "channels": 1, "val_size": 10, **changes}
    return ImageDataModule(source="torchvision", dataset=dataset, root=str(root), **arguments)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(utils.urllib.request, "urlopen", refuse)


def write_mnist(root: Path) -> None:
    """60 training and 20 test images in MNIST's format, each of the colour of ten times its label."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.broadcast_to(labels[:, None, None] * 10, (count, 28, 28)).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("dataset", "where", "file", "address"),
    [
        ("MNIST", "MNIST/raw", "t10k-labels-idx1-ubyte.gz", MNIST.mirrors[0]),
        ("CIFAR10", "", "cifar-10-python.tar.gz", CIFAR10.url),
        ("SVHN", "", "test_32x32.mat", SVHN.split_list["test"][0]),
    ],
)
def test_a_failed_download_is_one_sentence_with_a_way_out(
    dataset: str, where: str, file: str, address: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        make(tmp_path, dataset).prepare_data()
    message = str(caught.value)
    assert message.startswith(f"{dataset} is not in {tmp_path / where} and cannot be downloaded from ")
    assert "\n" not in message
    for part in (file, address, "no network", f"into {tmp_path / where} yourself", "data=digits", "data=sprites"):
        assert part in message


def test_a_disk_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "MNIST").write_text("a file where a folder is needed")
    with pytest.raises(DataError, match="cannot be downloaded"):
        make(tmp_path).prepare_data()


def test_celeba_without_its_helper_or_network_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("'gdown' is required")

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", refuse)
    with pytest.raises(DataError, match=r"from Google Drive \('gdown' is required\); put img_align_celeba.zip"):
        make(tmp_path, "CelebA", channels=3).prepare_data()


def test_a_silent_server_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = []

    def refuse(*_: Any, **__: Any) -> None:
        patience.append(socket.getdefaulttimeout())
        raise URLError("no network")

    monkeypatch.setattr(utils.urllib.request, "urlopen", refuse)
    with pytest.raises(DataError):
        make(tmp_path).prepare_data()
    assert set(patience) == {downloads.TIMEOUT_SECONDS}
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("no_network")
def test_files_that_are_there_are_not_downloaded(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = make(tmp_path)
    data.prepare_data()
    assert data.describe() == {
        "name": "mnist",
        "image_shape": [1, 28, 28],
        "train": 50,
        "val": 10,
        "test": 20,
        "split_seed": 0,
        "binarize": "none",
        "fit": "crop",
        "range": "full",
        "skipped": 0,
    }


@pytest.mark.usefixtures("no_network")
def test_packed_files_put_there_by_hand_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    for path in list((tmp_path / "MNIST" / "raw").iterdir()):
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    monkeypatch.setattr(MNIST, "resources", [(name, None) for name, _ in MNIST.resources])
    data = make(tmp_path)
    data.prepare_data()
    assert data.describe()["train"] == 50


@pytest.mark.usefixtures("no_network")
def test_damaged_files_are_not_mistaken_for_missing_ones(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    images = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    for action in ("prepare_data", "setup"):
        with pytest.raises(DataError, match=r"the files of MNIST in .*raw cannot be read \(.*; delete them"):
            getattr(make(tmp_path), action)()


def test_reading_before_preparing_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MNIST is not in .*raw; train or run `python scripts/prepare_data.py`"):
        make(tmp_path).setup()


def test_unknown_and_unfit_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset must be the name of a class .*, got 'MNISTT'"):
        make(tmp_path, "MNISTT").prepare_data()
    with pytest.raises(ConfigError, match=r"data\.dataset=Caltech101 has no official train and test splits"):
        make(tmp_path, "Caltech101").setup()


def test_labels_stay_with_their_images_and_test_images_stay_test_images(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = make(tmp_path, image_size=[24, 40], channels=3)
    for split in ("train", "val", "test"):
        x, y = data.examples(100, split)
        assert x.shape[1:] == data.image_shape == (3, 24, 40)
        assert torch.allclose(x * 255, 10.0 * y.view(-1, 1, 1, 1).expand_as(x))
    assert data.factors[0].values == tuple(MNIST.classes)


class Fake:
    """Stands in for a class of torchvision: arrays in the layouts that it has."""

    def __init__(self, root: Path, train: bool = True) -> None:
        count = 30 if train else 5
        self.targets = list(range(count))
        self.data = np.zeros((count, 32, 32, 3), np.uint8)
        self.data[..., 1] = np.arange(count)[:, None, None]


class FakeSVHN:
    def __init__(self, root: Path, split: str = "train") -> None:
        base = Fake(root, split == "train")
        self.labels, self.data = np.array(base.targets), base.data.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("cls", [Fake, FakeSVHN])
def test_colour_arrays_of_either_layout_are_read(cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "find_class", lambda _: cls)
    x, y = make(tmp_path, "SVHN", image_size=32, channels=3).examples(10)
    assert torch.equal((x[:, 1, 0, 0] * 255).round().long(), y)
    assert x[:, [0, 2]].max() == 0


def test_celeba_has_its_official_splits_and_forty_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, 16)]
    for number, name in enumerate(names):
        Image.new("RGB", (178, 218), (10 * number,) * 3).save(folder / "img_align_celeba" / name)
    attributes = [[1 if number & 1 << bit else -1 for bit in range(40)] for number in range(15)]
    rows = "".join(f"{name} {' '.join(map(str, row))}\n" for name, row in zip(names, attributes, strict=True))
    header = " ".join(f"Attribute_{number}" for number in range(40))
    (folder / "list_attr_celeba.txt").write_text(f"15\n{header} \n{rows}")
    splits = [0] * 9 + [1] * 2 + [2] * 4
    (folder / "list_eval_partition.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, splits, strict=True)))
    (folder / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    boxes = "".join(f"{name} 1 1 1 1\n" for name in names)
    for file in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (folder / file).write_text(f"15\nx_1 y_1 width height\n{boxes}")
    monkeypatch.setattr(CelebA, "_check_integrity", lambda _: True)

    data = make(tmp_path, "CelebA", image_size=16, channels=3, num_workers=0)
    data.prepare_data()
    assert [data.describe()[split] for split in ("train", "val", "test")] == [9, 2, 4]
    assert [factor.name for factor in data.factors] == header.split()
    for split, numbers in (("train", range(9)), ("val", range(9, 11)), ("test", range(11, 15))):
        x, y = data.examples(20, split)
        seen = (y * 2 ** torch.arange(40)).sum(1)
        assert sorted(seen.tolist()) == list(numbers)
        assert torch.allclose(x.mean((1, 2, 3)) * 255, 10.0 * seen, atol=2)


def test_real_mnist_is_read_as_it_is(real_data: Path) -> None:
    data = make(real_data, val_size=5000)
    data.prepare_data()
    described = data.describe()
    assert [described[split] for split in ("train", "val", "test")] == [55000, 5000, 10000]
    x, y = data.examples(10000, "test")
    assert torch.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert re.fullmatch(r"0\.1325", f"{x.mean():.4f}")
    mean = sum(data.examples(60000, split)[0].double().sum() for split in ("train", "val")) / 60000 / 784
    assert f"{mean:.4f}" == "0.1307"
