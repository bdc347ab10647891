"""Data sets of one's own are read under the project's own order, and what is no data set of images is named."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.test_arrays import as_set, images_of, made
from vaezoo import Run
from vaezoo.config.errors import ConfigError, DataError, RunError
from vaezoo.data import ImageDataModule

SOURCE = '''
import lightning.pytorch as L
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

X = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 3, 8, 9).contiguous()


class Items(Dataset):
    """The same images in a form of your choice."""

    def __init__(self, form: str = "pair", sizes: int = 1) -> None:
        self.form, self.sizes = form, sizes

    def __len__(self):
        return 0 if self.form == "none" else 60

    def __getitem__(self, index):
        x = X[index]
        forms = {
            "pair": (x, index % 3), "alone": x, "mapping": {"image": x, "label": torch.tensor(index % 3)},
            "keys": {"pixels": x, "kind": index % 3},
            "array": (x.permute(1, 2, 0).numpy(), index % 3), "float": (x / 255, index % 3),
            "pil": (Image.fromarray(x.permute(1, 2, 0).numpy()), index % 3), "text": "no image",
            "sizes": x[:, : 8 - index // 50], "palette": Image.fromarray(x[0].numpy()).convert("P"),
        }
        return forms[self.form]


class Named(Items):
    classes = ("x", "y", "z")


def splits(split: str):
    return {"train": TensorDataset(X[:40], torch.arange(40) % 2), "val": None, "test": TensorDataset(X[40:])}[split]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


class Module(L.LightningDataModule):
    def setup(self, stage):
        self.data = Items("pair")

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=7, shuffle=True)

    def test_dataloader(self):
        return DataLoader(TensorDataset(X[40:], torch.zeros(20).long()), batch_size=7)


class Several(Module):
    def train_dataloader(self):
        return [DataLoader(Items())] * 2


def lacking(split: str):
    return None if split == "train" else Items()
'''


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "owndata.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("owndata", None)


def own(name: str, **changes: Any) -> ImageDataModule:
    return made(Path("."), source="own", dataset=f"owndata:{name}", **changes)


def numbers(x: torch.Tensor) -> list[int]:
    return sorted((x[:, 0, 0, 0] * 255).round().long().tolist())


@pytest.mark.parametrize("form", ["pair", "alone", "mapping", "array", "float", "pil", "palette"])
def test_items_of_any_form_give_the_same_images(form: str) -> None:
    data = own("Items", dataset_options={"form": form})
    assert (data.image_shape, data.name) == ((3, 8, 9), "items")
    assert numbers(images_of(data)) == list(range(60))
    x, y = data.examples(60, "train")
    labelled = form not in ("alone", "palette")
    assert torch.equal(y, (x[:, 0, 0, 0] * 255).round().long() % 3 if labelled else torch.full((40,), -1))


@pytest.mark.parametrize("way", [{"in_memory": True}, {"in_memory": False}, {"in_memory": False, "num_workers": 2}])
def test_the_order_is_the_projects_wherever_the_images_are(way: dict[str, Any]) -> None:
    data = own("Items", **way)
    wanted = own("Items", in_memory=True)
    assert torch.equal(images_of(data), images_of(wanted))
    data.close()


def test_names_of_classes_are_those_of_the_data_set() -> None:
    named = own("Named")
    named.setup()
    assert named.factors[0].values == ("x", "y", "z")


def test_an_object_is_taken_as_its_class_is() -> None:
    from owndata import Items, Module  # type: ignore[import-not-found]

    for thing in (Items(), Module()):
        data = made(Path("."), source="own", dataset=thing)
        assert data.name == type(thing).__name__.lower()
        assert torch.equal(images_of(data), images_of(own(type(thing).__name__)))


def test_a_mapping_may_have_names_of_its_own() -> None:
    data = own("Items", dataset_options={"form": "keys"}, key="pixels", label_key="kind")
    assert (data.image_shape, data.classes) == ((3, 8, 9), 3)


def test_a_function_may_make_each_split() -> None:
    data = own("splits")
    assert [data.describe()[split] for split in ("train", "val", "test")] == [30, 10, 20]
    assert numbers(data.examples(20, "test")[0]) == list(range(40, 60))
    assert data.labels("test").unique().tolist() == [-1]
    assert data.classes == 2


def test_the_data_sets_of_a_lightning_module_are_taken() -> None:
    data = own("Module")
    assert [data.describe()[split] for split in ("train", "val", "test")] == [50, 10, 20]
    assert len(next(iter(data.train_dataloader()))[0]) == 16


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Items", {"form": "text"}, r"items of data\.dataset must be an image, .* got str; change the data set"),
        ("Items", {"form": "none"}, "owndata:Items has a split without images"),
        ("Items", {"form": "sizes"}, r"there is an image of shape \(3, 7, 9\) .* make them alike"),
        ("Items", {"frm": "pair"}, r"data\.dataset_options\.frm is not a setting here; did you mean 'form'"),
        ("splits", {"split": "val"}, r"data\.dataset_options\.split is set by the program"),
        ("Stream", None, "must make data sets with __len__ and __getitem__, got Stream; the order of others"),
        ("Several", None, "Several.train_dataloader must return one DataLoader, whose data set is taken, got list"),
        ("lacking", None, "owndata:lacking makes no data set for training; return one for split='train'"),
        ("missing", None, r"data\.dataset must name a function or class as package\.module:name"),
    ],
)
def test_what_is_no_data_set_of_images_is_named(name: str, options: Any, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as refused:
        images_of(own(name, dataset_options=options))
    assert "\n" not in str(refused.value)


def test_settings_of_others_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset must name a class or function of yours .* got 'MNIST'"):
        made(Path("."), source="own", dataset="MNIST")
    with pytest.raises(ConfigError, match=r"data\.dataset_options are for data=own, got .* data\.source=digits"):
        ImageDataModule(source="digits", image_size=8, channels=1, val_size=9, dataset_options={"a": 1})


def test_a_run_of_it_is_read_by_those_who_trust_it(program: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["data=own", "data.dataset=owndata:Items", "callbacks=none", f"run_dir={run}", "trainer.max_epochs=1"]
    code, printed = program("train", "model=vae", *words, "data.test_size=20", "evaluation=quick")
    assert code == 0, printed
    assert (run / "evaluation.json").is_file()
    assert as_set(Run(run).data(packages=["vaezoo", "owndata"]).examples(5)[0].numpy())
    sys.modules.pop("owndata")
    with pytest.raises(RunError, match=r"asks for 'owndata:Items' in data\.dataset; .* packages=\[owndata\]"):
        Run(run).data()
    assert "owndata" not in sys.modules
