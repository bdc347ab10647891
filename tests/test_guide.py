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

from vaezoo import Run, load
from vaezoo.benchmark import grid
from vaezoo.commands import adopt, compare, evaluate, explore, prior, push
from vaezoo.commands.apply import encode, render, score
from vaezoo.commands.export import command
from vaezoo.config import automatic, hydra_config
from vaezoo.config.errors import RunError
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models.loading import make_on_meta_device

DOCS = Path(__file__).resolve().parent.parent / "docs"
NAMES = ("guide.md", "tokenizers.md", "data.md", "explorer.md")
GUIDE, TOKENIZERS, DATA, EXPLORER = ((DOCS / name).read_text() for name in NAMES)
Program = Callable[..., tuple[int, str]]

READ: dict[str, Callable[[list[str]], Any]] = {
    "adopt": adopt.read,
    "evaluate": evaluate.read,
    "explore": explore.read,
    "prior": prior.read,
    "encode": encode.arguments_of,
    "render": render.arguments_of,
    "score": score.arguments_of,
    "export": command.read,
    "push": push.read,
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


def test_a_folder_trains_and_its_images_are_encoded(folder: Path, program: Program) -> None:
    (folder / "images").mkdir()
    for number, pixels in enumerate(np.load("images.npy")):
        Image.fromarray(pixels[0]).save(folder / "images" / f"{number:06d}.png")
    command = shlex.split(blocks("bash", "data=image_folder")[0])[2:]
    code, printed = program("train", *command, "run_dir=run", "trainer.max_epochs=1", "callbacks=none")
    assert code == 0, printed
    [block] = blocks("python", "run.encode")
    found: dict[str, Any] = run(block, RUN_DIR="run")
    codes, test, files = found["codes"], found["test"], found["files"]
    assert (codes.shape, test.shape, len(files)) == ((400, 10), (40, 10), 400)
    assert all(np.abs(codes - code).max(1).min() < 1e-5 for code in test)
    [block] = blocks("python", "run.scorer")
    found = run(block, RUN_DIR="run")
    assert list(found["scores"])[-2:] == ["knn_distance", "mahalanobis"]
    assert (len(found["scores"]["mse"]), len(found["table"]["mse"])) == (8, 400)


def test_networks_of_ones_own_train(folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "mynetworks.py").write_text(blocks("python", "# mynetworks.py")[0])
    monkeypatch.syspath_prepend(folder)
    lines = [line for line in blocks("bash", "mynetworks:make")[0].splitlines() if line.startswith("vaezoo train")]
    assert len(lines) == 2
    for number, line in enumerate(lines):
        short = [f"run_dir=run{number}", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "evaluation=none"]
        code, printed = program("train", *shlex.split(line)[2:], *short)
        assert code == 0, printed
    of_package = {"packages": ["vaezoo", "mynetworks"]}
    assert load("run0", **of_package).encoder[1].out_features == 512
    assert load("run1", **of_package).index_shape == (1, 4, 4)
    with pytest.raises(RunError, match=r"asks for 'mynetworks:make' in model\.network; if you trust it"):
        load("run0")
    sys.modules.pop("mynetworks")


def test_data_classes_of_ones_own_train(folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mydata", "mymodule"):
        (folder / f"{name}.py").write_text(blocks("python", f"# {name}.py", page=DATA)[0])
    monkeypatch.syspath_prepend(folder)
    lines = [line for block in blocks("bash", "data=own", page=DATA) for line in block.splitlines() if "train" in line]
    assert len(lines) == 2
    for number, line in enumerate(lines):
        short = [f"run_dir=run{number}", "trainer.max_epochs=1", "callbacks=none", "evaluation=none"]
        code, printed = program("train", *shlex.split(line)[2:], *short)
        assert code == 0, printed
        assert "of 28x28, 2 channels" in printed
    assert Run("run0").summary["data"]["train"] == 1200
    found = run(blocks("python", 'source="own"', page=DATA)[0])
    assert found["model"].image_shape == (2, 28, 28)  # type: ignore[attr-defined]
    for name in ("mydata", "mymodule"):
        sys.modules.pop(name)


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


@pytest.mark.parametrize(
    ("page", "count"), [(GUIDE, 20), (TOKENIZERS, 15), (DATA, 11)], ids=["guide", "tokenizers", "data"]
)
def test_every_training_command_is_a_valid_config(page: str, count: int) -> None:
    found = [words[2:] for words in commands(page) if words[:2] == ["python", "train.py"]]
    assert len(found) == count
    for words in found:
        with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
            cfg = compose("train", overrides=["run_dir=somewhere", *words])
        hydra_config.check(cfg)
        automatic.resolve(cfg)
        size = cfg.data.image_size or 28  # that of the array
        shape = (1, 1, 13) if cfg.data.source == "table" else (cfg.data.channels or 5, size, size)
        made: Any = make_on_meta_device(cfg, shape)
        assert made.formula()


@pytest.mark.parametrize("page", [GUIDE, TOKENIZERS, DATA, EXPLORER], ids=["guide", "tokenizers", "data", "explorer"])
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
    pages = {"": page, "guide.md": GUIDE, "tokenizers.md": TOKENIZERS, "data.md": DATA}
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
