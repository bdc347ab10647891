"""Private names of Lightning stand in one module, exist in the installed version, and are missed early."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.training.test_stepping import fit, small
from vaezoo.training import lightning_internals as internals

Program = Callable[..., tuple[int, str]]

PACKAGE = Path(internals.__file__).parents[1]

OF_OTHERS = {
    "_amp_foreach_non_finite_check_and_unscale_",  # torch
    "_asdict",  # named tuples
    "_exit",  # os
    "_fields",
    "_file_name",  # TensorBoard
    "_iterator",  # torch's DataLoader
    "_replace",
    "_schema",  # torch's operators
    "_shutdown_workers",
    "_target_",  # Hydra
    "_valid_parameters",  # submitit
}
"""Private or odd names that other modules use, and whose they are."""


def test_the_installed_version_has_all_names() -> None:
    trainer = fit(small(), "fast", max_epochs=1)
    assert internals.missing(trainer, internals.FAST_LOOP + internals.NEEDED) == []
    assert internals.missing(ModelCheckpoint(), internals.NEEDED_OF_CHECKPOINTS) == []


def test_the_names_are_those_that_the_module_uses() -> None:
    listed = internals.FAST_LOOP + internals.NEEDED + internals.NEEDED_OF_CHECKPOINTS
    names = {name for path in listed for name in path.split(".") if name.startswith("_")}
    source = Path(internals.__file__).read_text().partition("# models ---")[2]
    assert [name for name in names if f".{name}" not in source and f"def {name}" not in source] == []


@pytest.mark.parametrize("gone", ["_gone", "fit_loop._gone", "fit_loop._gone.further"])
def test_without_one_the_fast_loop_steps_aside(
    gone: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(internals, "FAST_LOOP", (*internals.FAST_LOOP, gone))
    monkeypatch.setattr("vaezoo.training.stepping.InnerLoop.run", lambda self: pytest.fail("it was used"))
    with caplog.at_level("INFO"):
        trainer = fit(small(), "fast", max_epochs=1)
    assert f"this version of Lightning has no {gone}" in caplog.text
    assert trainer.global_step == 5


@pytest.mark.parametrize("names", ["NEEDED", "NEEDED_OF_CHECKPOINTS"])
def test_without_one_of_the_others_nothing_starts(
    names: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internals, names, (*getattr(internals, names), "_gone"))
    code, printed = program("train", "data=digits", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert "error: vaezoo does not work with lightning " in printed
    assert "which has no _gone; install a version that pyproject.toml allows" in printed
    assert not (tmp_path / "run").exists()


def test_no_other_module_uses_private_names() -> None:
    used: dict[str, list[str]] = {}
    own: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            own |= _defined(node)
            private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            if private and path.name != "lightning_internals.py":
                used.setdefault(node.attr, []).append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert {name: places for name, places in used.items() if name not in own | OF_OTHERS} == {}
    assert not own & {"_save_checkpoint"} - _defined_in(Path(internals.__file__))


def _defined_in(path: Path) -> set[str]:
    return {name for node in ast.walk(ast.parse(path.read_text())) for name in _defined(node)}


def _defined(node: Any) -> set[str]:
    """Names that a node defines: functions, classes, variables and attributes of ``self``."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    parts = [part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    attributes = {part.attr for part in parts if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self"}
    return attributes | {part.id for part in parts if isinstance(part, ast.Name)}
