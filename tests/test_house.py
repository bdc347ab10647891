"""How the package is built: who imports whom, and what stands in one place only. CONTRIBUTING.md has the map."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaezoo.models
from vaezoo.config import VERSION
from vaezoo.config.choices import LIKELIHOODS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vaezoo"

FLOORS = {
    "": 8,
    "__main__": 8,
    "commands": 7,
    "comparison": 6,
    "explorer": 6,
    "benchmark": 5,
    "models": 5,
    "training": 4,
    "evaluation": 4,
    "data": 3,
    "nn": 3,
    "metrics": 2,
    "runs": 2,
    "distributed": 2,
    "figures": 1,
    "config": 1,
}
"""Packages may import those on lower floors. The empty name is the package's own ``__init__``."""

SHARED_MODELS = ("base", "conditional", "continuous", "objective", "quantized", "relaxed")
"""Modules of models that variants are made of."""
VARIANTS_IMPORT = (
    *(f"models.{name}" for name in SHARED_MODELS),
    "nn",
    "metrics.divergences",
    "config.validation",
    "config.errors",
    "training.terms",
    "training.weight_schedules",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """``training.stepping``; the package's own name for an ``__init__``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules and names below vaezoo that a file imports, in functions and for type checkers too, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vaezoo":
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("vaezoo."))


def module_of(imported: str) -> str:
    """The module in which an imported name stands, without ``vaezoo.``."""
    name = imported.removeprefix("vaezoo").removeprefix(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def names_and_calls(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text()))


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION == vaezoo.__version__


def test_each_package_has_a_floor() -> None:
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()} == FLOORS.keys() - {
        "",
        "__main__",
    }
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_lead_downwards(path: Path) -> None:
    here = name_of(path).partition(".")[0]
    upwards = [
        f"line {line}: {imported}"
        for imported, line in imports(path)
        if (there := module_of(imported).partition(".")[0]) != here and FLOORS[there] >= FLOORS[here]
    ]
    assert not upwards


def test_there_is_no_circle() -> None:
    """Packages' ``__init__`` are left out: they import what they offer, and are imported by what is in them."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {
        name: {module_of(imported) for imported, _ in imports(path)} - packages - {name}
        for name, path in MODULES.items()
        if name not in packages
    }
    while free := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in free:
            del graph[name]
    assert not graph


@pytest.mark.parametrize("package", ["nn", "metrics"])
def test_building_blocks_and_metrics_know_tensors_only(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (lightning|hydra|omegaconf|pathlib)\b", path.read_text(), re.M), path


def test_a_variant_imports_what_it_is_made_of() -> None:
    beside = {"adoption", "construction", "hub", "loading", "model_card", "program_checks", "programs", "sampling"}
    shared = {"__init__", *SHARED_MODELS, *beside, "stored_prior", "trained"}
    variants = {name_of(path): path for path in (PACKAGE / "models").glob("*.py") if path.stem not in shared}
    assert len(variants) >= 4
    for path in variants.values():
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        extended = {base.id for cls in classes for base in cls.bases if isinstance(base, ast.Name)}
        for imported, line in imports(path):
            module = module_of(imported)
            allowed = any(module == part or module.startswith(f"{part}.") for part in VARIANTS_IMPORT)
            parent = module in variants and imported.rpartition(".")[2] in extended
            assert allowed or parent, f"{path.name}:{line} imports {imported}"


def test_variants_are_named_in_models_only() -> None:
    variants = set(vaezoo.models.__all__) - {"Autoencoder"}
    assert len(variants) >= 8
    for path in FILES:
        if name_of(path).partition(".")[0] in ("models", "", "__main__"):
            continue
        found = {node.id for node in names_and_calls(path) if isinstance(node, ast.Name)} & variants
        assert not found, f"{path} names {found}; ask the object instead"


def test_parts_and_weights_of_variants_are_named_where_they_are_defined() -> None:
    """Elsewhere: ask the object. ``check`` asks for a likelihood by name; torch has a function called bernoulli."""
    defining = ("models", "nn.likelihoods", "config.choices", "config.automatic", "commands.check")
    named = {"beta", *LIKELIHOODS, "vamp", "iwae", "miwae", "ciwae", "critic_tc"}
    letters = {"comparison.report.exports"}
    for name, path in MODULES.items():
        if name.startswith(defining) or name in letters:
            continue
        texts = {node.value for node in names_and_calls(path) if isinstance(node, ast.Constant)}
        assert not texts & named, f"{path} names {texts & named}"


def test_parts_are_created_in_few_places() -> None:
    allowed = {"commands.assembly", "models.loading", "benchmark.preflight"}
    calling = {name_of(path) for path in FILES if re.search(r"\binstantiate\(", path.read_text())}
    assert calling <= allowed


def test_tests_mirror_the_packages() -> None:
    beside = {"scripts", "slurm"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if (path / "__init__.py").is_file()}
    assert folders - beside == FLOORS.keys() - {"", "__main__"}
