"""What the documents show works as it is written there."""

import ast
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from tests.commands.test_sweeps import needs
from vaezoo import Run, load
from vaezoo.benchmark import grid
from vaezoo.commands import model_table
from vaezoo.config import hydra_config
from vaezoo.runs.user_code import UserCode

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_table_of_the_zoo_is_made_from_its_models() -> None:
    """If it is not: vaezoo list models format=markdown."""
    assert model_table.markdown(model_table.rows(UserCode())) in README


def train_commands() -> list[list[str]]:
    """The overrides of every training command in the README, sweeps narrowed to their first values."""
    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    commands = [
        shlex.split(line.partition("python train.py")[2], comments=True) for line in lines if "train.py" in line
    ]
    inline = re.findall(r"`'?((?:model|data|trainer|callbacks|\+model|compile|stepping)[\w.+]*=[^`]+?)'?`", README)
    commands += [re.split(r"'? '?(?=model\.\w+=)", words) for words in inline if not words.endswith("=")]
    return [
        [word if any(mark in word for mark in "[{") else word.split(",")[0] for word in words if word != "-m"]
        for words in commands
    ]


@pytest.mark.parametrize("overrides", train_commands(), ids=" ".join)
def test_every_command_of_the_readme_is_a_valid_config(overrides: list[str]) -> None:
    for word in overrides:
        if word.startswith("sweep="):
            needs(word.removeprefix("sweep="))
    if any(word.startswith("model.capacity") or word.startswith("model.beta") for word in overrides):
        overrides = ["model=beta_vae", *[word for word in overrides if not word.startswith("model=")]]
    resumed = any(word.startswith("resume=") for word in overrides)
    extra = [] if resumed or "run_dir" in " ".join(overrides) else ["run_dir=somewhere"]
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=[*overrides, *extra, *(["run_dir=somewhere"] if resumed else [])])
    hydra_config.check(cfg)


def test_every_benchmark_of_the_readme_is_a_valid_grid(tmp_path: Path) -> None:
    lines = "\n".join(blocks(README, "bash")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True)[2:] for line in lines if line.startswith("vaezoo benchmark")]
    assert len(commands) == 3
    counts = []
    for words in commands:
        words = [word.replace("DIR", str(tmp_path)).replace("PATH", str(tmp_path)) for word in words]
        counts.append(len(grid.read_cells(grid.read(words))))
    assert counts == [6, 9, 12]


def test_there_are_commands_to_check() -> None:
    assert len(train_commands()) > 15


def test_the_readmes_first_command_trains(program: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    first = blocks(README, "bash")[0]
    assert "python train.py model=beta_vae\n" in first
    code, printed = program("train", "model=beta_vae", f"run_dir={tmp_path / 'run'}", "trainer.max_epochs=3")
    assert code == 0, printed


def test_the_readmes_python_runs(train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train("run")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shown = blocks(README, "python")
    assert len(shown) == 2
    (x,) = [run.model().sample(4)]
    names["x"] = x
    for block in shown:
        exec(block.replace("RUN_DIR", str(run.path)).replace("max_epochs=20", "max_epochs=1"), names)
    assert names["model"].latent_dim == 10  # type: ignore[attr-defined]
    assert names["y"].shape == (16, 1, 16, 16)  # type: ignore[attr-defined]


def test_the_recipe_for_a_model_is_whole(
    program: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, yaml = blocks(CONTRIBUTING, "python")[0], blocks(CONTRIBUTING, "yaml")[0]
    package, configs = tmp_path / "recipe_package", tmp_path / "configs" / "model"
    package.mkdir()
    configs.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    (configs / "sparse_ae.yaml").write_text(yaml.replace("vaezoo.models.sparse_ae", "recipe_package"))
    monkeypatch.syspath_prepend(tmp_path)
    run_dir = tmp_path / "run"
    code, printed = program("check", f"--config-dir={configs.parent}", "model=sparse_ae")
    assert code == 0, printed
    short = ["trainer.max_epochs=2", "data.limit=64", f"run_dir={run_dir}"]
    code, printed = program("train", f"--config-dir={configs.parent}", "model=sparse_ae", "model.sparsity=0.3", *short)
    assert code == 0, printed
    run = Run(run_dir)
    test = run.summary["test"]
    assert test["loss"] == pytest.approx(test["recon"] + 0.3 * test["l1"], rel=1e-5)
    assert type(load(run_dir, packages=["vaezoo", "recipe_package"])).__name__ == "SparseAE"
    with pytest.raises(Exception, match=r"asks for the class recipe_package\.SparseAE"):
        load(run_dir)
    sys.modules.pop("recipe_package")


def test_every_picture_of_the_readme_is_there_and_small() -> None:
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for name in pictures:
        assert (ROOT / name).stat().st_size < 300_000
        Image.open(ROOT / name).verify()


def test_links_between_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), target


def test_every_promise_names_a_test_that_there_is_and_says_which_run_at_night() -> None:
    rows = re.findall(r"^\| (.+) \| `(tests/\S+\.py)::(\w+)` \|$", RELIABILITY, re.MULTILINE)
    assert len(rows) == RELIABILITY.count("`tests/") > 80
    for promise, file, name in rows:
        defined = {node.name: node for node in ast.walk(ast.parse((ROOT / file).read_text())) if is_function(node)}
        assert name in defined, f"{file}::{name}"
        decorators = [ast.unparse(decorator) for decorator in defined[name].decorator_list]
        assert ("pytest.mark.nightly" in decorators) == promise.endswith("☾"), f"{file}::{name}"


def is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef)
