"""Heavy libraries are loaded by what needs them, and by nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

import vaezoo
import vaezoo.models

ROOT = Path(__file__).resolve().parent.parent

HEAVY = {"torch", "lightning", "torchvision", "torchmetrics", "matplotlib", "sklearn", "scipy", "pandas", "jinja2"}

WATCHED_TRAINING = """
import builtins, sys

asked, plain = set(), builtins.__import__

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    if str((globals or {}).get("__name__")).startswith("vaezoo") and level == 0:
        asked.add(name.partition(".")[0])
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = watched
from vaezoo.commands.command_line import main

main()
print("ASKED", *asked)
print("LOADED", *sys.modules)
"""
"""Trains as the rest of the line says, then tells what this package's own modules asked for, and all there is."""


def test_every_model_can_be_imported_from_the_package() -> None:
    names = {*vaezoo.models.__all__, "ImageDataModule", "Run", "load", "__version__"}
    assert names == set(vaezoo.__all__) == set(dir(vaezoo))
    assert all(getattr(vaezoo, name) is getattr(vaezoo.models, name) for name in vaezoo.models.__all__)
    for name in ("Nonsense", "nonsense", "_private"):
        assert not hasattr(vaezoo, name)


def test_the_package_itself_loads_nothing_heavy() -> None:
    done = _python("-X", "importtime", "-c", "import vaezoo; assert not hasattr(vaezoo, 'nonsense')")
    assert not {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & HEAVY


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "vaezoo.commands.command_line", "list"],
        ["-m", "vaezoo.commands.command_line", "--help"],
        ["-m", "vaezoo.commands.command_line", "train", "--help"],
        ["train.py", "--help"],
        ["train.py", "model=ae", "--cfg", "job"],
    ],
    ids=" ".join,
)
def test_commands_that_only_tell_load_nothing_heavy(command: list[str]) -> None:
    done = _python("-X", "importtime", *command)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vaezoo.config.hydra_config" in imported
    assert not imported & HEAVY
    assert done.stdout.strip()


def test_help_without_comments_is_what_hydra_would_print() -> None:
    program = (
        "import hydra; from vaezoo.config.hydra_config import CONFIGS;"
        " hydra.main(version_base='1.3', config_path=str(CONFIGS), config_name='train')(print)()"
    )
    overrides = ["model=beta_vae", "model.beta=2"]
    ours, hydras = _python("train.py", *overrides, "--help"), _python("-c", program, *overrides, "-h")
    bare = [line.partition("# ")[0].rstrip() for line in ours.stdout.splitlines()]
    assert [line for line in bare if line] == [line for line in hydras.stdout.splitlines() if line.strip()]


def test_a_plain_training_loads_neither_pictures_nor_probes(tmp_path: Path) -> None:
    few = ["data=sprites", "data.limit=64", "data.val_size=64", "data.test_size=64", f"data.root={tmp_path / 'data'}"]
    plain = ["callbacks=none", "evaluation=none", "trainer.max_steps=2", f"run_dir={tmp_path / 'run'}"]
    done = _python("-c", WATCHED_TRAINING, "train", "model.widths=[16]", *few, *plain)
    told = {line.split()[0]: set(line.split()[1:]) for line in done.stdout.splitlines() if line[:3] in ("ASK", "LOA")}
    assert {"torch", "lightning"} <= told["ASKED"]
    # Lightning loads torchvision, matplotlib and scipy by itself; this package is not to.
    assert not told["ASKED"] & (HEAVY - {"torch", "lightning"})
    assert not told["LOADED"] & {
        "sklearn",
        "pandas",
        "jinja2",
        "vaezoo.figures",
        "vaezoo.comparison.report",
        "vaezoo.comparison",
    }


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
