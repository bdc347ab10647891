"""What the guide and the pages on tokenizers and the explorer show works as it is written there."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from sklearn.datasets import load_digits

from vaezoo import load
from vaezoo.benchmark import grid
from vaezoo.commands import adopt, compare, evaluate, explore, prior
from vaezoo.config import automatic, hydra_config
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models.loading import make_on_meta_device

DOCS = Path(__file__).resolve().parent.parent / "docs"
GUIDE, TOKENIZERS, EXPLORER = ((DOCS / name).read_text() for name in ("guide.md", "tokenizers.md", "explorer.md"))
Program = Callable[..., tuple[int, str]]

READ: dict[str, Callable[[list[str]], Any]] = {
    "adopt": adopt.read,
    "evaluate": evaluate.read,
    "explore": explore.read,
    "prior": prior.read,
    "compare": compare.parse,
    "benchmark": lambda words: grid.read_cells(grid.read(words)),
}
"""What reads the arguments of each command that does not train."""
COVERED = {
    *(("python", "train.py"), ("vaezoo", "check"), ("vaezoo", "train")),  # by other tests of this file
    *(("pip", "install"), ("pip", "uninstall"), ("rm", "-r"), ("export", "PYTHONPATH=.")),  # not ours
}


def blocks(language: str, *words: str, page: str = GUIDE) -> list[str]:
    """Blocks of a page in a language that contain all of the words."""
    found = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
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


def commands(page: str) -> list[list[str]]:
    """The words of every command of a page."""
    lines = [line for block in blocks("bash", page=page) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


@pytest.mark.parametrize(("page", "count"), [(GUIDE, 18), (TOKENIZERS, 15)], ids=["guide", "tokenizers"])
def test_every_training_command_is_a_valid_config(page: str, count: int) -> None:
    found = [words[2:] for words in commands(page) if words[:2] == ["python", "train.py"]]
    assert len(found) == count
    for words in found:
        with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
            cfg = compose("train", overrides=["run_dir=somewhere", *words])
        hydra_config.check(cfg)
        automatic.resolve(cfg)
        size = cfg.data.image_size
        made: Any = make_on_meta_device(cfg, (cfg.data.channels, size, size))
        assert made.formula()


@pytest.mark.parametrize("page", [GUIDE, TOKENIZERS, EXPLORER], ids=["guide", "tokenizers", "explorer"])
def test_every_other_command_is_read_by_its_program(page: str) -> None:
    for program, verb, *words in commands(page):
        if (program, verb) not in COVERED:
            assert program == "vaezoo"
            READ[verb](words)


@pytest.mark.parametrize(
    ("page", "head", "least"), [(GUIDE, "| question |", 20), (TOKENIZERS, "| metric |", 9)], ids=["guide", "tokenizers"]
)
def test_every_metric_is_one_that_there_is(page: str, head: str, least: int) -> None:
    table = page.partition(head)[2].partition("\n\n")[0]
    names = re.findall(r"`([a-z_0-9]+)`", table)
    assert len(names) > least
    assert {name for name in names if name not in CATALOGUE} == set()


@pytest.mark.parametrize("page", [GUIDE, TOKENIZERS], ids=["guide", "tokenizers"])
def test_every_link_to_a_heading_leads_to_one(page: str) -> None:
    pages = {"": page, "guide.md": GUIDE, "tokenizers.md": TOKENIZERS}
    links = [link for link in re.findall(r"\]\((\S*?)#(\S+?)\)", page) if link[0] in pages]
    assert len(links) > 8
    for name, anchor in links:
        headings = re.findall(r"^#+ (.*)$", pages[name], re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_indices_become_images(folder: Path, program: Program) -> None:
    code, printed = program(
        "train",
        "model=vqvae",
        "model.widths=[8,8]",
        "run_dir=run",
        "trainer.max_epochs=1",
        "callbacks=none",
        "data.limit=64",
        "evaluation=none",
    )
    assert code == 0, printed
    found: dict[str, Any] = run(blocks("python", "codes_at", page=TOKENIZERS)[0], RUN_DIR="run")
    assert found["indices"].shape == (8, 1, 4, 4)
    assert torch.equal(found["images"], found["model"].reconstruct(found["x"]))
