"""What the documents show runs: their Python, with the files and models that it needs, and their first commands."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.documents import PAGES, ROOT, blocks, commands
from vaezoo import Run, load
from vaezoo.commands import command_line
from vaezoo.config.errors import RunError

Program = Callable[..., tuple[int, str]]

OWN = PAGES["docs/use/own-models.md"]
FILE = re.compile(r"# (\w+\.py)\n")
"""First line of a block that is a file in the current folder; files of the package have a folder before their name."""
SHOWN = [
    (page, block) for page in PAGES for block in blocks(PAGES[page], "python") if not block.startswith("# vaezoo/")
]
FILES = {found[1]: block for _, block in SHOWN if (found := FILE.match(block))}
ELSEWHERE = "hf://"
"""What is in blocks that tests/commands/test_push.py runs."""
EXAMPLES = [
    pytest.param(block, id=f"{page}-{number}")
    for number, (page, block) in enumerate(SHOWN)
    if block not in FILES.values() and ELSEWHERE not in block
]
RUNS = {
    "plain": ("data=image_folder", "data.root=images", "data.image_size=16", "data.channels=1"),
    "labelled": ("model=conditional_vae", "data.limit=200", "evaluation=none"),
    "discrete": ("model=vqvae", "model.widths=[8,8]", "data.limit=64", "evaluation=none"),
}
"""Settings of the runs that blocks load."""
SHAPES = {
    "sevens": (16, 1, 16, 16),
    "as_threes": (8, 1, 16, 16),
    "walk": (9, 1, 16, 16),
    "test": (40, 10),
    "indices": (8, 1, 4, 4),
}
"""What names come to in the blocks that have them."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 400 digits as images.npy, uint8 (N, 1, 8, 8), and as files, the modules of the pages, and runs."""
    folder = tmp_path_factory.mktemp("place")
    images = (load_digits().images[:400, None] * 15).astype(np.uint8)
    np.save(folder / "images.npy", images)
    (folder / "images").mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels[0]).save(folder / "images" / f"{number:06d}.png")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("logging.root.handlers", [])
        for name, settings in RUNS.items():
            words = ["vaezoo", "train", f"run_dir={name}", "trainer.max_epochs=1", "callbacks=none", *settings]
            patch.setattr("sys.argv", words)
            command_line.main()
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same as the current folder, from which modules are imported."""
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place)
    yield place
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


@pytest.mark.parametrize("block", EXAMPLES)
def test_python_runs(block: str, here: Path, program: Program) -> None:
    if "onnxruntime" in block:
        pytest.importorskip("onnxruntime", reason='needs pip install -e ".[export]"')
        assert program("export", "plain", "out=model.safetensors", "program=onnx")[0] == 0
    kind = "labelled" if re.search(r"labels=|\.given\(", block) else "discrete" if "codes_at" in block else "plain"
    names: dict[str, Any] = {"__name__": "example"}
    exec("import vaezoo\n" + block.replace("RUN_DIR", kind).replace("max_epochs=20", "max_epochs=1"), names)
    found = {name: tuple(names[name].shape) for name in SHAPES.keys() & names.keys() if hasattr(names[name], "shape")}
    assert found == {name: SHAPES[name] for name in found}
    if "codes_at" in block:
        assert torch.equal(names["images"], names["model"].reconstruct(names["x"]))
    if "onnxruntime" in block:
        with torch.no_grad():
            expected: Any = Run(here / "plain").model().posterior(torch.from_numpy(names["images"]))
        assert np.allclose(names["mean"], expected.mean, atol=1e-5)
        assert np.allclose(names["logvar"], expected.logvar, atol=1e-5)
    if "scorer" in block:
        assert list(names["scores"])[-2:] == ["knn_distance", "mahalanobis"]
        assert (len(names["scores"]["mse"]), len(names["table"]["mse"])) == (8, 400)


def test_there_are_blocks_to_run() -> None:
    assert len(EXAMPLES) >= 10
    assert FILES.keys() >= {"mynetworks.py", "mydata.py", "mymodule.py"}


def test_networks_and_data_of_ones_own_train(here: Path, program: Program) -> None:
    lines = [words for page in PAGES for words in commands(PAGES[page]) if re.search("=my[a-z]+:", " ".join(words))]
    assert len(lines) == 4
    for number, words in enumerate(lines):
        short = [f"run_dir=own{number}", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "evaluation=none"]
        code, printed = program("train", *words[2:], *short)
        assert code == 0, printed
        assert "data.dataset" not in " ".join(words) or "of 28x28, 2 channels" in printed
    runs = [Run(f"own{number}") for number in range(4)]
    made, spatial = [run.path for run in runs if ":" in run.config.model.network]
    of_package = {"packages": ["vaezoo", "mynetworks"]}
    assert load(made, **of_package).encoder[1].out_features == 512
    assert load(spatial, **of_package).index_shape == (1, 4, 4)
    with pytest.raises(RunError, match=r"asks for 'mynetworks:make' in model\.network; if you trust it"):
        load(made)


def test_the_recipe_for_a_model_is_whole(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [source], [yaml] = blocks(OWN, "python", "LassoAE"), blocks(OWN, "yaml")
    package, configs = tmp_path / "recipe_package", tmp_path / "configs" / "model"
    package.mkdir()
    configs.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    (configs / "lasso_ae.yaml").write_text(yaml.replace("vaezoo.models.lasso_ae", "recipe_package"))
    monkeypatch.syspath_prepend(tmp_path)
    run_dir = tmp_path / "run"
    code, printed = program("check", f"--config-dir={configs.parent}", "model=lasso_ae")
    assert code == 0, printed
    short = ["trainer.max_epochs=2", "data.limit=64", f"run_dir={run_dir}"]
    code, printed = program("train", f"--config-dir={configs.parent}", "model=lasso_ae", "model.sparsity=0.3", *short)
    assert code == 0, printed
    run = Run(run_dir)
    test = run.summary["test"]
    assert test["loss"] == pytest.approx(test["recon"] + 0.3 * test["l1"], rel=1e-5)
    assert type(load(run_dir, packages=["vaezoo", "recipe_package"])).__name__ == "LassoAE"
    with pytest.raises(Exception, match=r"asks for the class recipe_package\.LassoAE"):
        load(run_dir)
    sys.modules.pop("recipe_package")


def test_the_first_commands_of_the_readme_work(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks(PAGES["README.md"], "bash")[:2]
    assert first == "pip install -e .\npython train.py model=beta_vae\n"
    lines = [shlex.split(line) for line in (first + second).splitlines() if not line.startswith("pip")]
    assert len(lines) == 4
    for words in lines[:-1]:
        extra = ["trainer.max_epochs=2", "evaluation=none", *(["run_dir=first"] if "run_dir" not in str(words) else [])]
        code, printed = program("train", *words[2:], *extra)
        assert code == 0, printed
    pytest.importorskip("onnx", reason='needs pip install -e ".[export]"')
    code, printed = program(*lines[-1][1:])
    assert code == 0, printed
    assert (tmp_path / "explorer.html").is_file()


@pytest.mark.nightly
def test_the_lesson_can_be_followed(chromium: Any, tmp_path: Path) -> None:
    """All commands of its page, one after another, with few images and for one epoch, draw all of its pictures."""
    lesson, places = PAGES["docs/learn.md"], {"runs/learn": tmp_path / "runs", "docs/pictures": tmp_path}
    fewer = {"train.py": ["data=digits", "data.limit=64"], "benchmark": ["data.limit=64"]}
    programs = {"python": [sys.executable], "vaezoo": [sys.executable, "-m", "vaezoo"], "cp": ["cp"]}
    for words in commands(lesson):
        if words[0] == "pip":
            continue
        line = re.sub(r"max_epochs=\d+", "max_epochs=1", shlex.join([*words[1:], *fewer.get(words[1], [])]))
        for place, own in {**places, "explorer.html": tmp_path / "explorer.html"}.items():
            line = line.replace(place, str(own))
        command = [*programs[words[0]], *shlex.split(line)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == set(re.findall(r"\]\(pictures/(\w+\.png)\)", lesson))
