"""Parquet and Arrow files give the images that were put into them, without network."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_arrays import COUNT, images_of, made, numbered, random
from vaezoo.config.errors import DataError

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted files go to the test's folder, and nothing is asked of the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pictures(count: int = COUNT, first: int = 0) -> Any:
    """Grey images of 8x8, encoded as PNG, whose pixels are their number, with one of three labels."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["c", "a", "b"])})
    images = [Image.fromarray(pixels) for pixels in numbered(count, first)]
    return datasets.Dataset.from_dict({"image": images, "label": [n % 3 for n in range(count)]}, features=features)


def parquet(path: Path, table: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path))
    return path


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["file.parquet", "folder", "saved", "file.arrow"])
def test_encoded_images_and_their_labels_arrive(kind: str, in_memory: bool, tmp_path: Path) -> None:
    root = tmp_path / kind
    if kind == "saved":
        pictures().save_to_disk(str(root))
    elif kind == "file.arrow":
        pictures().save_to_disk(str(tmp_path / "saved"))
        root = tmp_path / "saved" / "data-00000-of-00001.arrow"
    else:
        parquet(root if kind == "file.parquet" else root / "data.parquet", pictures())
    data = made(root, source="hf", in_memory=in_memory, num_workers=0)
    assert (data.image_shape, data.describe()["train"]) == ((1, 8, 8), 40)
    assert data.factors[0].values == ("c", "a", "b")
    x, y = data.examples(COUNT, "train")
    assert torch.equal(y, (x[:, 0, 0, 0] * 255).round().long() % 3)
    assert len(images_of(data)) == COUNT


@pytest.mark.parametrize("in_memory", [True, False])
def test_encoded_images_of_sixteen_bits_are_exact(in_memory: bool, tmp_path: Path) -> None:
    values = random("uint16", 8, 9)
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [Image.fromarray(each) for each in values]}, features=features)
    np.save(tmp_path / "a.npy", values)
    path = parquet(tmp_path / "a.parquet", table)
    found = made(path, source="hf", in_memory=in_memory, num_workers=0)
    wanted = made(tmp_path / "a.npy")
    assert torch.equal(images_of(found), images_of(wanted))
    assert found.range == wanted.range
    assert len(images_of(found).unique()) > 1000


@pytest.mark.parametrize("kind", ["folder", "saved"])
def test_splits_are_those_of_the_names(kind: str, tmp_path: Path) -> None:
    parts = {"train": pictures(30), "validation": pictures(12, 100), "test": pictures(14, 200)}
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / kind))
    else:
        for name, table in parts.items():
            parquet(tmp_path / kind / "data" / f"{name}-00000-of-00001.parquet", table)
    data = made(tmp_path / kind, source="hf")
    assert [data.describe()[split] for split in ("train", "val", "test")] == [30, 12, 14]
    assert (data.examples(14, "test")[0] * 255).round().min() == 200


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("nested", [True, False])
def test_columns_of_numbers_are_exact(nested: bool, dtype: str, tmp_path: Path) -> None:
    values = random(dtype, 5, 8, 9)
    inner = datasets.Value(dtype)
    feature = [[[inner]]] if nested else datasets.Array3D((5, 8, 9), dtype)
    features = datasets.Features({"frames": feature, "kind": datasets.Value("string")})
    columns = {"frames": list(values), "kind": ["ab"[n % 2] for n in range(COUNT)]}
    path = parquet(tmp_path / "a.parquet", datasets.Dataset.from_dict(columns, features=features))
    np.save(tmp_path / "a.npy", values)
    found = made(path, source="hf", key="frames", label_key="kind", in_memory=False)
    wanted = made(tmp_path / "a.npy")
    assert found.image_shape == (5, 8, 9)
    assert torch.equal(images_of(found), images_of(wanted))
    assert found.factors[0].values == ("a", "b")


def test_a_path_or_an_address_in_place_of_an_image_is_not_followed(tmp_path: Path) -> None:
    from pyarrow.parquet import write_table

    secret = tmp_path / "secret.png"
    Image.new("L", (8, 8)).save(secret)
    for place in (str(secret), "https://example.org/a.png"):
        rows = {"image": [{"bytes": None, "path": place}] * COUNT}
        table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image(decode=False)}))
        rows_with_types = table.with_format("arrow")[:].replace_schema_metadata(table.features.arrow_schema.metadata)
        write_table(rows_with_types, tmp_path / "a.parquet")  # to_parquet would follow them itself
        with pytest.raises(DataError, match="it has no bytes of an image; embed files before they are saved"):
            made(tmp_path / "a.parquet", source="hf")


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("no Parquet")
    (tmp_path / "broken.arrow").write_bytes(b"ARROW1" + bytes(100))
    words = datasets.Dataset.from_dict({"text": ["a"] * COUNT, "image": ["b"] * COUNT})
    parquet(tmp_path / "words.parquet", words)
    none = pa.table({"image": pa.array([], pa.binary())})
    with pa.OSFile(str(tmp_path / "zero.arrow"), "wb") as file, pa.ipc.new_stream(file, none.schema) as stream:
        stream.write_table(none)
    parquet(tmp_path / "others.parquet", words.remove_columns("image"))
    parquet(tmp_path / "ragged.parquet", datasets.Dataset.from_dict({"x": [[[1] * 8] * 8, [[1] * 9] * 8] * 30}))
    parquet(tmp_path / "mixed" / "train.parquet", pictures())
    parquet(tmp_path / "mixed" / "more.parquet", pictures())
    parquet(tmp_path / "tests" / "test-0.parquet", pictures())
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    rows = {"image": [png.getvalue()] * 30 + [b"damaged"] * 30}
    parquet(tmp_path / "damaged.parquet", datasets.Dataset.from_dict(rows))
    messages = {
        "missing": r"there is no file .*missing; set data\.root",
        "empty": r"there is no \.parquet or \.arrow file in .*empty; set data\.root",
        "text.parquet": r"text\.parquet cannot be read as Parquet or Arrow: .*; save it again",
        "broken.arrow": r"broken\.arrow cannot be read as Parquet or Arrow: .*; save it again",
        "zero.arrow": r"zero\.arrow has a table without rows; set data\.root",
        "words.parquet": r"image in .*words\.parquet holds values of type string, which are not images; set data\.key",
        "others.parquet": r"others\.parquet has text, but no column called images.*; set data\.key",
        "ragged.parquet": r"x in .*ragged\.parquet.* holds values of type int64, which are not pixels; save",
        "mixed": r"more\.parquet does not say of which split it is",
        "tests": r"tests has test, but no training images; add a file whose name has train",
        "damaged.parquet": r"image files cannot be read, which is more than 1%",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message) as refused:
            images_of(made(tmp_path / name, source="hf", range="full"))
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match=r"no column called kinds; set data\.label_key"):
        made(parquet(tmp_path / "a.parquet", pictures()), source="hf", label_key="kinds")


def test_rows_of_different_shapes_are_refused(tmp_path: Path) -> None:
    features = datasets.Features({"x": [[datasets.Value("uint8")]]})
    rows = {"x": [np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8)] * 30}
    path = parquet(tmp_path / "a.parquet", datasets.Dataset.from_dict(rows, features=features))
    with pytest.raises(DataError, match=r"x in .*a\.parquet\[\d+\] cannot be used: its rows differ in shape"):
        images_of(made(path, source="hf"))
