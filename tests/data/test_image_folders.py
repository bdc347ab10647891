"""Runs on a folder of images: what was found in the files is kept, and holds for all that reads the run later."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from tests.commands.test_train import interrupt_at
from vaezoo import Run
from vaezoo.benchmark.folder import Folder
from vaezoo.benchmark.grid import Cell
from vaezoo.config.errors import RunError

Program = Callable[..., tuple[int, str]]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Settings of a short training on 12-bit images in 16-bit files."""
    folder, generator = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(60):
        Image.fromarray(generator.integers(0, 4096, (8, 8), np.uint16)).save(folder / f"{number}.png")
    data = ["data=image_folder", f"data.root={folder}", "data.image_size=8", "data.channels=1", "data.batch_size=8"]
    return [*data, "model.widths=[16]", "callbacks=none", "trainer.max_epochs=2", "evaluation=none"]


def test_the_levels_that_were_found_are_in_the_record(words: list[str], program: Program, tmp_path: Path) -> None:
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *words)
    assert code == 0, printed
    assert printed.count(": 0 to 4095 become black to white") == 1
    run = Run(tmp_path / "run")
    assert run.config.data.range == run.summary["data"]["range"] == [0, 4095]
    for path in (tmp_path / "images").glob("*.png"):
        levels = np.asarray(Image.open(path)) // 16  # another look would find other levels
        Image.fromarray(levels.astype(np.uint16)).save(path)
    assert run.data().examples(5)[0].max() <= 16 / 255


def test_a_run_that_is_begun_or_resumed_keeps_its_levels(
    words: list[str], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", f"run_dir={tmp_path / 'run'}", "resume=auto", *words, "callbacks=default"]
    pictures = ("reconstructions", "interpolations", "samples", "traversals", "latent_kl", "latent_map")
    command += [f"callbacks.{name}=null" for name in pictures]
    interrupt_at(monkeypatch, 8)
    assert program(*command)[0] == 130
    monkeypatch.undo()
    code, printed = program(*command)
    assert code == 0, printed
    assert Run(tmp_path / "run").config.data.range == [0, 4095]
    code, printed = program(*command, "data.range=full")
    assert code == 1
    assert "data.range: [0, 4095] -> 'full'" in printed


def test_a_benchmark_takes_a_run_for_its_own_whatever_levels_it_found(
    words: list[str], program: Program, tmp_path: Path
) -> None:
    folder = Folder(tmp_path)
    assert program("train", f"run_dir={folder.run_dir('a')}", *words)[0] == 0
    folder.log("a").touch()
    config = OmegaConf.to_container(Run(folder.run_dir("a")).config)
    assert isinstance(config, dict)

    def cell(levels: object) -> Cell:
        return Cell("a", (), {**config, "data": {**config["data"], "range": levels}})

    assert folder.state(cell("auto")) == folder.state(cell([0, 4095])) == "finished"
    with pytest.raises(RunError, match=r"data\.range is \[0, 4095\] in the folder and 'full' in this command"):
        folder.state(cell("full"))


def test_padding_is_in_the_record_and_in_the_images(words: list[str], program: Program, tmp_path: Path) -> None:
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *words, "data.fit=pad", "data.image_size=[8,16]")
    assert code == 0, printed
    run = Run(tmp_path / "run")
    assert run.summary["data"]["fit"] == "pad"
    x, _ = run.data().examples(3)
    assert torch.equal(x[..., :4], torch.zeros(3, 1, 8, 4))
    assert x[..., 4:12].max() > 0.9
