"""Run folders of earlier versions name classes by where they were then, and still load and resume."""

import inspect
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import vaezoo
from vaezoo import Run
from vaezoo.benchmark.folder import Folder
from vaezoo.models import VAE
from vaezoo.runs.renamed import ADDED, RENAMED, current

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]

FORMER = (
    "vaezoo.callbacks.BestCheckpoint",
    "vaezoo.callbacks.LastCheckpoint",
    "vaezoo.callbacks.LatentKL",
    "vaezoo.loggers.CSVLogger",
    "vaezoo.loggers.TensorBoardLogger",
    "vaezoo.sharding.FullyShardedStrategy",
    "vaezoo.trackers.WandbLogger",
    "vaezoo.trainer.Trainer",
)


NEW = tuple(f"  {name}:" for name in ("posterior", "prior", "bound", "penalty", "code_channels")) + tuple(
    f"  {name}_options:" for name in ("posterior", "prior", "bound", "penalty")
)
"""Beginnings of the lines of a config with settings of models that an earlier version did not have."""


def as_before(text: str) -> str:
    """A text with the names of an earlier version."""
    for before, now in RENAMED.items():
        text = text.replace(now, before)
    return text


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_leads_to_its_class(name: str) -> None:
    module, _, cls = current({"a": [{"_target_": name}]})["a"][0]["_target_"].rpartition(".")
    assert isinstance(getattr(import_module(module), cls), type)


def test_settings_that_did_not_exist_do_what_was_done_then() -> None:
    before = {"_target_": "vaezoo.models.BetaVAE", "beta": 2.0, "prior": "mixture"}
    assert current({"model": before})["model"] == before | {"posterior": "diagonal", "bound": "elbo"}
    for name, added in ADDED.items():
        cls = getattr(import_module("vaezoo.models"), name.rpartition(".")[2])
        defaults = {key: value.default for key, value in inspect.signature(VAE).parameters.items()}
        assert issubclass(cls, VAE)
        assert added == {key: defaults[key] for key in added}


@pytest.mark.parametrize(
    "name", ["vaezoo.models.AE", "mine.callbacks.X", "vaezoo.training.callbacks.Samples", "", None]
)
def test_other_names_stay(name: str | None) -> None:
    assert current({"_target_": name, "text": "vaezoo.callbacks.X"}) == {"_target_": name, "text": "vaezoo.callbacks.X"}


def test_a_run_of_before_loads_and_resumes(train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    config = run.path / "config.yaml"
    lines = [line for line in as_before(config.read_text()).splitlines() if not line.startswith(NEW)]
    config.write_text("\n".join(lines))
    assert "vaezoo.callbacks.LastCheckpoint" in config.read_text()
    assert type(vaezoo.load(run.path)).__name__ == run.summary["model"]
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    assert run.summary["epochs"] == 2
    assert "vaezoo.callbacks." not in config.read_text()


def test_a_benchmarks_plan_of_before_is_the_same(tmp_path: Path) -> None:
    planned = {"runs": {"vae": {"trainer": {"_target_": "vaezoo.trainer.Trainer"}}}, "evaluate": [], "evaluated": {}}
    (tmp_path / "benchmark.json").write_text(json.dumps(planned))
    assert Folder(tmp_path).plan()["runs"]["vae"]["trainer"]["_target_"] == "vaezoo.training.trainer.Trainer"
