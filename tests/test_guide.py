"""What the guide shows works as it is written there."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image
from sklearn.datasets import load_digits

from vaezoo import load
from vaezoo.config import hydra_config
from vaezoo.metrics.catalogue import CATALOGUE

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "guide.md").read_text()
Program = Callable[..., tuple[int, str]]


def blocks(language: str, *words: str) -> list[str]:
    """Blocks of the guide in a language that contain all of the words."""
    found = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return [block for block in found if all(word in block for word in words)]


def run(block: str, **changes: str) -> dict[str, object]:
    for before, after in {"max_epochs=20": "max_epochs=1", **changes}.items():
        block = block.replace(before, after)
    names: dict[str, object] = {"__name__": "guide"}
    exec(block, names)
    return names


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``images.npy`` in it: 400 digits, uint8 (N, 1, 8, 8)."""
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", (load_digits().images[:400, None] * 15).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("words", [("TensorDataset", "train = DataLoader"), ("LightningDataModule",)])
def test_an_array_and_a_data_class_train(words: tuple[str, ...], folder: Path) -> None:
    [block] = blocks("python", *words)
    assert run(block)["model"].image_shape == (1, 8, 8)  # type: ignore[attr-defined]


def test_an_array_becomes_a_folder_that_trains_and_whose_images_are_encoded(folder: Path, program: Program) -> None:
    [write] = blocks("python", "fromarray")
    run(write)
    assert len(list((folder / "images").iterdir())) == 400
    assert Image.open(folder / "images" / "000000.png").mode == "L"
    command = shlex.split(blocks("bash", "data=image_folder")[0])[2:]
    code, printed = program("train", *command, "run_dir=run", "trainer.max_epochs=1", "callbacks=none")
    assert code == 0, printed
    of_test, of_files = blocks("python", "savez")
    run(of_test, RUN_DIR="run")
    test = np.load("codes.npz")["codes"]
    run(of_files, RUN_DIR="run")
    codes, files = np.load("codes.npz")["codes"], np.load("codes.npz")["files"]
    assert (codes.shape, test.shape, len(files)) == ((400, 10), (40, 10), 400)
    assert all(np.abs(codes - code).max(1).min() < 1e-5 for code in test)


def test_a_network_of_ones_own_trains(folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    [source], [yaml] = blocks("python", "MyVAE"), blocks("yaml")
    Path("mynetworks.py").write_text(source)
    Path("myconfigs/model").mkdir(parents=True)
    Path("myconfigs/model/my_vae.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(folder)
    line = next(line for line in blocks("bash", "my_vae")[0].splitlines() if line.startswith("vaezoo train"))
    *words, option = shlex.split(line)[2:]
    code, printed = program("train", *words, "run_dir=run", "trainer.max_epochs=1", "callbacks=none", option)
    assert code == 0, printed
    assert load("run", packages=["vaezoo", "mynetworks"]).hparams["hidden"] == 512
    sys.modules.pop("mynetworks")


def test_a_conditional_model_is_given_labels(folder: Path, program: Program) -> None:
    code, printed = program("train", "model=conditional_vae", "run_dir=run", "trainer.max_epochs=1", "callbacks=none")
    assert code == 0, printed
    found = run(blocks("python", "given(y)")[0], RUN_DIR="run")
    assert found["sevens"].shape == (16, 1, 16, 16)  # type: ignore[attr-defined]
    assert found["as_threes"].shape == (8, 1, 16, 16)  # type: ignore[attr-defined]


def test_every_training_command_is_a_valid_config() -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("python train.py")]
    assert len(lines) == 18
    for line in lines:
        with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
            hydra_config.check(compose("train", overrides=[*shlex.split(line, comments=True)[2:], "run_dir=somewhere"]))


def test_every_metric_is_one_that_there_is() -> None:
    table = GUIDE.partition("| question |")[2].partition("\n\n")[0]
    names = re.findall(r"`([a-z_]+)`", table)
    assert len(names) > 20
    assert {name for name in names if name not in CATALOGUE} == set()
