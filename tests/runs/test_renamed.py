"""Run folders of earlier versions name classes by where they were then, and still load and resume."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

import vaezoo
from vaezoo import Run
from vaezoo.benchmark.folder import Folder
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


def as_before(text: str) -> str:
    """A text with the names of an earlier version."""
    for before, now in RENAMED.items():
        text = text.replace(now, before)
    return text


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_leads_to_its_class(name: str) -> None:
    module, _, cls = current({"a": [{"_target_": name}]})["a"][0]["_target_"].rpartition(".")
    assert isinstance(getattr(import_module(module), cls), type)


@pytest.mark.parametrize(
    "name", ["vaezoo.models.AE", "mine.callbacks.X", "vaezoo.training.callbacks.Samples", "", None]
)
def test_other_names_stay(name: str | None) -> None:
    assert current({"_target_": name, "text": "vaezoo.callbacks.X"}) == {"_target_": name, "text": "vaezoo.callbacks.X"}


@pytest.mark.parametrize("name", ADDED)
def test_settings_added_since_have_the_values_of_the_class_and_given_ones_stay(name: str) -> None:
    module, _, cls = name.rpartition(".")
    filled = current({"model": {"_target_": name, "prior": "vamp"}})["model"]
    assert filled == {"_target_": name, **ADDED[name], "prior": "vamp"}
    hparams = getattr(import_module(module), cls)(image_shape=[1, 8, 8]).hparams
    assert {key: hparams[key] for key in ADDED[name]} == ADDED[name]


def test_a_run_of_before_loads_and_resumes(train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    config = run.path / "config.yaml"
    config.write_text(as_before(config.read_text()))
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
