"""A checkpoint is whole or refused in one sentence, and what it says removes, moves and loses nothing."""

import math
import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

import vaezoo
from tests.conftest import some
from tests.runs.test_resuming import edit, record_of
from vaezoo import Run
from vaezoo.config.errors import RunError
from vaezoo.runs import checkpoints
from vaezoo.runs.checkpoints import mismatches
from vaezoo.training.optimizers import example_states

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]

WRONG: tuple[Any, ...] = (None, "abc", -5, 1.5, math.nan, [], {}, [[]], {"a": {}}, 2**70, True, torch.zeros(3), "")


@pytest.fixture
def trained(train: Train) -> Callable[[], Run]:
    """Trains a run of one epoch, with an optimiser, a schedule and pictures that have states."""
    schedule = "model.scheduler={name: ReduceLROnPlateau, patience: 1}"
    return lambda: train("run", schedule, "trainer.max_epochs=1", "callbacks=default", "callbacks.last.min_seconds=0")


@pytest.fixture
def resume(program: Program) -> Callable[[Run], tuple[int, str]]:
    def run(run: Run) -> tuple[int, str]:
        return program("train", f"resume={run.path}", "trainer.max_epochs=2", "callbacks.latent_kl=null")

    return run


def refused(run: Run, resume: Callable[[Run], tuple[int, str]]) -> str:
    """The one sentence by which a resume is refused that leaves the run as it was."""
    before = record_of(run.path)
    code, printed = resume(run)
    assert code == 1, printed
    assert record_of(run.path) == before
    [sentence] = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in printed
    return sentence


# what a checkpoint holds ---------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(name)


def with_value(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def in_optimizer(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda content: change(content["optimizer_states"][0])


@pytest.mark.parametrize(
    ("change", "said"),
    some(
        [
            (with_value("optimizer_states", []), "optimizer_states is []"),
            (in_optimizer(lambda state: state["state"].clear()), "do not match the model's parameters"),
            (
                in_optimizer(lambda state: state["state"].update({99: state["state"][0]})),
                "do not match the model's parameters",
            ),
            (in_optimizer(lambda state: state["state"][0].update(exp_avg=torch.zeros(7))), "exp_avg of parameter 0"),
            (
                in_optimizer(lambda state: state["state"][0].pop("exp_avg")),
                "it has no optimizer_states.0.state.0.exp_avg",
            ),
            (in_optimizer(lambda state: state["state"][0]["exp_avg_sq"].fill_(math.nan)), "exp_avg_sq of parameter 0"),
            (in_optimizer(lambda state: state["param_groups"][0].update(lr="x")), "param_groups.0.lr is 'x'"),
            (with_value("lr_schedulers", []), "lr_schedulers is []"),
            (with_value("global_step", -5), "global_step is -5"),
            (with_value("global_step", 2), "it has global_step=2, but its loops counted 4"),
            (with_value("global_step", "4"), "global_step is '4'"),
            (with_value("epoch", None), "epoch is None"),
            (with_value("loops", {}), "it has no loops.fit_loop"),
            (with_value("loops", {"fit_loop": {}}), "it has no loops."),
            (with_value("record", []), "record is []"),
            (with_value("record", {"rows": -1}), "values that are not counts"),
            (with_value("record", {"events": {"events.out.tfevents.1": "x"}}), "values that are not counts"),
            (with_value("random_states", [[torch.zeros(3)]]), "not states of torch's generators"),
            (with_value("random_states", "x"), "random_states is 'x'"),
            (with_value("callbacks", {}), "it has no callbacks.Resuming"),
            (lambda content: content["callbacks"]["Cost"].update(images="many"), "callbacks.Cost.images is 'many'"),
            (lambda content: content["state_dict"]["encoder.1.bias"].fill_(math.nan), "not finite (encoder.1.bias)"),
            (without("record"), "it has no record"),
            (without("pytorch-lightning_version"), "it has no pytorch-lightning_version"),
            (with_value("pytorch-lightning_version", "no version"), "cannot be restored by this version"),
        ],
        of=3,
    ),
)
def test_a_checkpoint_that_is_not_as_it_was_written_is_refused(
    change: Callable[[dict[str, Any]], None],
    said: str,
    trained: Callable[[], Run],
    resume: Callable[[Run], tuple[int, str]],
) -> None:
    run = trained()
    edit(run.checkpoint("last"), change)
    assert said in refused(run, resume)


def test_weights_that_are_not_finite_are_not_loaded(trained: Callable[[], Run], program: Program) -> None:
    run = trained()
    edit(run.checkpoint("best"), lambda content: content["state_dict"]["decoder.0.weight"].fill_(math.inf))
    with pytest.raises(RunError, match=r"best.ckpt contains weights that are not finite \(decoder.0.weight\)"):
        vaezoo.load(run.path)
    code, printed = program("evaluate", str(run.path), "quick=true")
    assert code == 1
    assert "not finite (decoder.0.weight)" in printed


def leaves(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a checkpoint each value lies, containers too."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield (*place, name)
        yield from leaves(child, (*place, name))


@pytest.mark.parametrize("count", [12, pytest.param(400, marks=pytest.mark.nightly)])
def test_whatever_is_wrong_in_a_checkpoint_is_one_sentence_or_harmless(
    count: int, trained: Callable[[], Run], resume: Callable[[Run], tuple[int, str]], tmp_path: Path
) -> None:
    run = trained()
    chance = random.Random(count)
    content = torch.load(run.checkpoint("last"), weights_only=True)
    places = list(leaves(content))
    shutil.copytree(run.path, tmp_path / "kept")
    for _ in range(count):
        place, value = chance.choice(places), deepcopy(chance.choice(WRONG))
        shutil.rmtree(run.path)
        shutil.copytree(tmp_path / "kept", run.path)
        changed = deepcopy(content)
        node = changed
        for name in place[:-1]:
            node = node[name]
        node[place[-1]] = value
        torch.save(changed, run.checkpoint("last"))
        before = record_of(run.path)
        code, printed = resume(run)
        assert "Traceback" not in printed, (place, value)
        assert code in (0, 1), (place, value, printed)
        if code == 0:
            assert run.summary["steps"] == 8, (place, value)
            assert vaezoo.load(run.path)
        else:
            assert printed.count("error: ") == 1, (place, value, printed)
            assert record_of(run.path) == before, (place, value)


@pytest.mark.parametrize(
    ("value", "example", "said"),
    [
        ({"a": 1}, {"a": 0}, []),
        ({"a": 1, "b": 2}, {"a": 0}, []),
        ({"a": -1}, {"a": 0}, ["a is -1"]),
        ({"a": -1}, {"a": -1}, []),
        ({"a": True}, {"a": 0}, ["a is True"]),
        ({"a": 2**63}, {"a": 0}, [f"a is {2**63}"]),
        ({"a": 1}, {"a": 0.5}, []),
        ({"a": math.inf}, {"a": 0.5}, ["a is inf"]),
        ({"a": -math.inf}, {"a": math.inf}, []),
        ({}, {"a": {"b": 1}}, ["it has no a"]),
        ({"a": []}, {"a": {}}, ["a is []"]),
        ({"a": {"b": "x" * 99}}, {"a": {"b": 1}}, ["a.b is a str"]),
        ([1, "x"], [0], ["1 is 'x'"]),
        ([1, "x"], [0, ""], []),
        ([1, "x"], [], []),
        ([], [0], ["it is []"]),
        ("x", None, []),
    ],
)
def test_values_are_held_against_the_kinds_of_an_example(value: Any, example: Any, said: list[str]) -> None:
    assert list(mismatches(value, example)) == said


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop", "Adagrad", "Adafactor", "AdamW", "NAdam", "Rprop", "ASGD"])
def test_the_state_of_every_optimiser_fits_the_one_that_it_would_save(name: str, tmp_path: Path) -> None:
    layer, settings = nn.Linear(3, 2), {"name": name, "lr": 0.1}
    optimizer = getattr(torch.optim, name)(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    [example] = example_states(layer.parameters(), settings, None)["optimizer_states"]
    state = optimizer.state_dict()
    checkpoints._refuse_unfit_optimizer(tmp_path, state, example, step=1)
    with pytest.raises(RunError):
        checkpoints._refuse_unfit_optimizer(tmp_path, {**state, "state": {7: {}}}, example, step=1)


# what it says of files -----------------------------------------------------------------------------------------------


def test_a_checkpoint_cannot_have_files_removed(trained: Callable[[], Run], program: Program, tmp_path: Path) -> None:
    """Lightning removes what the states of its callbacks name, folders too."""
    run = trained()
    precious = tmp_path / "precious"
    (precious / "deep").mkdir(parents=True)
    (run.path / "checkpoints" / "mine.ckpt").write_text("")

    def plant(content: dict[str, Any]) -> None:
        places = [
            precious,
            run.path / "checkpoints/../../precious",
            run.path / "figures",
            f"local://{precious}",
        ]
        for key, state in content["callbacks"].items():
            for place in map(str, places):
                if "Checkpoint" in key:
                    state |= {"best_model_path": place, "kth_best_model_path": place, "last_model_path": place}
                    state |= {"best_k_models": {place: torch.tensor(-1e9)}, "kth_value": torch.tensor(-1e9)}

    edit(run.checkpoint("last"), plant)
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=3")
    assert code == 0, printed
    assert (precious / "deep").is_dir()
    assert (run.path / "figures").is_dir()
    assert (run.path / "checkpoints" / "mine.ckpt").is_file()


def test_only_files_in_the_folders_of_checkpoints_are_removed(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from vaezoo.training.callbacks.checkpoints import CheckpointFile

    kept = tmp_path / "kept"
    (kept / "folder").mkdir(parents=True)
    outside = tmp_path / "outside.ckpt"
    for path in (kept / "old.ckpt", outside):
        path.write_text("")
    (kept / "link").symlink_to(tmp_path)
    trainer: Any = SimpleNamespace(checkpoint_callbacks=[ModelCheckpoint(dirpath=kept), ModelCheckpoint()])
    files = CheckpointFile(trainer)
    for place in (outside, kept / "../outside.ckpt", kept / "link/outside.ckpt", kept / "folder", "s3://x", kept):
        files.remove_checkpoint(place)
    assert outside.exists()
    assert (kept / "folder").is_dir()
    files.remove_checkpoint(kept / "old.ckpt")
    assert not (kept / "old.ckpt").exists()


def test_a_run_that_was_moved_remembers_its_best_weights(train: Train, program: Program, tmp_path: Path) -> None:
    run = train("run", "model.optimizer.lr=0.01", "trainer.max_epochs=4")
    best = torch.load(run.checkpoint("best"), weights_only=True)
    run.path.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    settings = ("trainer.max_epochs=5", "model.optimizer.lr=1e-30", "resume.force=true")
    code, printed = program("train", f"resume={moved}", *settings)
    assert code == 0, printed
    kept = torch.load(Run(moved).checkpoint("best"), weights_only=True)
    assert (kept["global_step"], best["global_step"]) == (16, 16)
    assert torch.load(Run(moved).checkpoint("last"), weights_only=True)["global_step"] == 20
