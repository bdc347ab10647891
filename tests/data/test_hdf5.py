"""HDF5 files give what the same arrays in .npz files give, also to worker processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.test_arrays import COUNT, images_of, made, numbered, random
from vaezoo.config import extras
from vaezoo.config.errors import ConfigError, DataError

h5py = pytest.importorskip("h5py")


def written(path: Path, arrays: dict[str, Any], **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **(options if np.ndim(values) > 1 else {}))
    return path


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("options", [{}, {"chunks": (7, 8, 8, 4), "compression": "gzip"}], ids=["plain", "gzip"])
def test_images_are_those_of_the_same_array(options: dict[str, Any], in_memory: bool, tmp_path: Path) -> None:
    values = random("uint16", 8, 8, 4)
    np.save(tmp_path / "images.npy", values)
    path = written(tmp_path / "images.h5", {"images": values}, **options)
    wanted, found = made(tmp_path / "images.npy"), made(path, source="hdf5", in_memory=in_memory)
    assert found.image_shape == (4, 8, 8)
    assert torch.equal(images_of(found), images_of(wanted))


def test_worker_processes_read_what_the_run_itself_reads(tmp_path: Path) -> None:
    """Although it has opened the file before they are started."""
    path = written(tmp_path / "images.h5", {"images": random("float32", 8, 8)}, chunks=(1, 8, 8), compression="gzip")
    alone = made(path, source="hdf5", in_memory=False, num_workers=0)
    helped = made(path, source="hdf5", in_memory=False, num_workers=2)
    assert torch.equal(images_of(helped), images_of(alone))
    assert torch.equal(images_of(helped), images_of(alone))
    helped.close()


def test_groups_are_splits_and_texts_are_labels(tmp_path: Path) -> None:
    names = np.array([f"kind {number % 3}" for number in range(COUNT)], dtype=h5py.string_dtype())
    arrays: dict[str, Any] = {"train/images": numbered(COUNT), "train/labels": names}
    arrays |= {"test/images": numbered(9, 100), "test/labels": names[:9]}
    data = made(written(tmp_path / "mine.hdf5", arrays), source="hdf5")
    x, y = data.examples(COUNT, "train")
    assert (len(x), data.describe()["test"], data.name) == (50, 9, "mine")
    assert data.factors[0].values == ("kind 0", "kind 1", "kind 2")
    assert torch.equal(y, (x[:, 0, 0, 0] * 255).round().long() % 3)
    given = made(tmp_path / "mine.hdf5", source="hdf5", key="train/images", label_key="none")
    assert given.describe()["train"] == 40


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    bad = random("float32", 8, 8)
    bad[17, 3, 3] = np.nan
    (tmp_path / "text.h5").write_text("no HDF5")
    written(tmp_path / "nan.h5", {"images": bad})
    written(tmp_path / "none.h5", {})
    written(tmp_path / "others.h5", {"a": bad, "b": bad})
    ragged = h5py.vlen_dtype(np.uint8)
    with h5py.File(tmp_path / "ragged.h5", "w") as file:
        file.create_dataset("images", (COUNT, 8, 8), ragged)
    messages = {
        "missing.h5": r"there is no file .*missing\.h5; set data\.root to an HDF5 file",
        "text.h5": r"text\.h5 is not a sound HDF5 file: .*; save it again",
        "none.h5": r"there is no array in .*none\.h5; set data\.root",
        "nan.h5": r"images in .*nan\.h5\[17\] cannot be used: some of its values are not finite",
        "others.h5": r"has a, b, but no array called images.*; set data\.key to the name of one",
        "ragged.h5": r"images in .*ragged\.h5 holds Python objects",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message) as refused:
            images_of(made(tmp_path / name, source="hdf5"))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_is_damaged_within_ends_training_with_one_sentence(workers: int, tmp_path: Path) -> None:
    path = written(tmp_path / "images.h5", {"images": random("uint8", 8, 8)}, chunks=(60, 8, 8), compression="gzip")
    content = bytearray(path.read_bytes())
    start = content.index(b"\x78\x5e") if b"\x78\x5e" in content else len(content) - 2000
    content[start + 50 : start + 90] = bytes(40)
    path.write_bytes(content)
    data = made(path, source="hdf5", in_memory=False, num_workers=workers, range="full")
    with pytest.raises(DataError, match=r"images\.h5\[\d+\] cannot be used: ") as refused:
        list(data.val_dataloader())
    assert "\n" not in str(refused.value)
    data.close()


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(extras, "import_module", absent)
    with pytest.raises(ConfigError, match=r'needs the package h5py; to install it: pip install -e "\.\[hdf5\]"'):
        made(tmp_path / "images.h5", source="hdf5")
