"""Every yaml of a data set makes a data module whose every setting can be overridden."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaezoo.config import hydra_config
from vaezoo.data import ImageDataModule

SHAPES = {
    "array": (2, 8, 9),
    "celeba": (3, 64, 64),
    "cifar10": (3, 32, 32),
    "digits": (1, 16, 16),
    "fashion_mnist": (1, 28, 28),
    "hdf5": (2, 8, 9),
    "hf": (2, 8, 9),
    "image_folder": (3, 64, 64),
    "kmnist": (1, 28, 28),
    "mnist": (1, 28, 28),
    "own": (2, 8, 9),
    "sprites": (1, 64, 64),
    "svhn": (3, 32, 32),
    "table": (1, 1, 2),
}

SIZE = ("data.image_size=[8,9]", "data.channels=2")
OVERRIDES = {
    **{name: (*SIZE, f"data.root={name}.x") for name in ("array", "hdf5", "hf")},
    "own": (*SIZE, "data.dataset=mydata:Own"),
    "table": ("data.columns=[a,b]", "data.mean=[0,1]", "data.std=[1,2]"),
}
"""Settings of data that would otherwise be read to know their shape."""


def make(name: str, *overrides: str) -> ImageDataModule:
    overrides = (*OVERRIDES.get(name, ()), *overrides)
    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose(f"data/{name}", overrides=["+seed=3", *overrides])
    assert set(cfg.data) - {"_target_", "_convert_"} == set(inspect.signature(ImageDataModule).parameters)
    data: ImageDataModule = instantiate(cfg.data)
    return data


def test_every_yaml_is_known_here() -> None:
    assert sorted(SHAPES) == hydra_config.options("data")


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_yaml_makes_a_data_module(name: str) -> None:
    data = make(name)
    assert data.image_shape == SHAPES[name]
    assert data.seed == 3
    assert data.name == name.replace("fashion_", "fashion")


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"sprites", "table"}))
def test_sizes_are_plain_values_whatever_hydra_calls_them(name: str) -> None:
    data = make(name, "data.image_size=[24,40]", "data.channels=1", "data.limit=10")
    assert data.image_shape == (1, 24, 40)
    assert type(data.image_shape) is tuple


def test_a_yaml_holds_only_what_differs() -> None:
    shared = OmegaConf.load(hydra_config.CONFIGS / "data" / "_shared.yaml")
    for name in SHAPES:
        own = OmegaConf.load(hydra_config.CONFIGS / "data" / f"{name}.yaml")
        for key in set(own) - {"defaults"}:
            repeated = OmegaConf.is_missing(shared, key) is False and own._get_node(key) == shared._get_node(key)
            assert not repeated, f"{name}.yaml repeats {key}"


def test_the_folder_of_data_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAEZOO_DATA", "/elsewhere")
    assert make("mnist").source.root == Path("/elsewhere")
    assert make("image_folder").source.root == Path("/elsewhere/images")
    assert make("mnist", "data.root=/here").source.root == Path("/here")


def test_the_script_prepares_by_name_and_says_what_it_cannot(tmp_path: Path) -> None:
    script = hydra_config.CONFIGS.parent / "scripts" / "prepare_data.py"
    if not script.is_file():
        pytest.skip("the scripts are part of a clone only")
    command = [sys.executable, str(script), "digits", "image_folder", "mnist", "--root"]
    (tmp_path / "MNIST").write_text("a file where a folder is needed")
    result = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines() == ["digits: ready", "image_folder: ready"]
    assert result.stderr.startswith("mnist: MNIST is not in ")
    assert "Traceback" not in result.stderr
