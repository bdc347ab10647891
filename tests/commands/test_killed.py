"""A run that is really killed and gone on with ends, bit by bit, as one that was not."""

import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.kills import Nursery, Process, differences, ranks

SETTINGS = (
    "model=beta_vae",
    "model.widths=[16]",
    "model.beta_schedule=linear",
    "model.schedule_steps=15",
    "model.scheduler={name: OneCycleLR, max_lr: 0.01, total_steps: total_steps}",
    "callbacks=ema",
    "callbacks.ema.decay=0.9",
    "callbacks.last.every_n_steps=3",
    "callbacks.last.min_seconds=0",
    "callbacks.samples.every_n_epochs=1",
    "callbacks.interpolations=null",
    "callbacks.reconstructions=null",
    "callbacks.traversals=null",
    "data.binarize=dynamic",
    "data.limit=256",
    "trainer.val_check_interval=5",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2",
    "resume=auto",
)
"""Eight steps an epoch, with checkpoints and validation in the middle of it, and noise in data and codes."""

FEWER = ("evaluation=none", "callbacks.latent_map=null", "callbacks.samples=null", "callbacks.latent_kl=null")

KILL = """
import os
from pathlib import Path
from vaezoo.evaluation import model
from vaezoo.training.callbacks import checkpoints, pictures

def kill_in(module, name, when):
    function, calls = getattr(module, name), []
    def killed(*arguments, **more):
        calls.append(arguments)
        if when(calls):
            os.kill(os.getpid(), 9)
        return function(*arguments, **more)
    setattr(module, name, killed)
"""

MOMENTS = {
    "while a checkpoint is written": "kill_in(checkpoints, 'synchronise', lambda calls: len(calls) == 3)",
    "between a checkpoint and its name": "kill_in(checkpoints, 'commit', lambda calls: len(calls) == 6)",
    "after a validation": "kill_in(pictures, 'write_picture', lambda calls: calls[-1][2].global_step >= 13)",
    "in the evaluation at the end": "kill_in(model, 'evaluate_model', lambda calls: True)",
}
"""Where a run is killed, one after the other: the code that does it."""


@pytest.fixture(scope="module")
def whole(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    code, printed = nursery.run("train", f"run_dir={folder}", *SETTINGS, log=folder.parent / "log")
    assert code == 0, printed
    return folder


def test_a_run_that_was_killed_wherever_it_was_ends_as_one_that_was_not(
    whole: Path, nursery: Nursery, tmp_path: Path
) -> None:
    command = ("train", f"run_dir={tmp_path / 'run'}", *SETTINGS)
    for moment, patch in MOMENTS.items():
        code, printed = nursery.run(*command, log=tmp_path / "log", patch=KILL + patch)
        assert code == -9, f"not killed {moment}: {printed}"
    code, printed = nursery.run(*command, log=tmp_path / "log")
    assert code == 0, printed
    assert differences(whole, tmp_path / "run") == []
    assert not list((tmp_path / "run").rglob("*.new"))


def kill_at_random(start: Callable[[], list[Process]], chance: random.Random, seconds: float, most: int) -> int:
    """Start again until it ends well, killed up to ``most`` times within ``seconds``; how often it was killed."""
    kills = 0
    while True:
        processes = start()
        until = time.monotonic() + (chance.uniform(0.1, 1) * seconds if kills < most else 600)
        while time.monotonic() < until and any(process.poll() is None for process in processes):
            time.sleep(0.01)
        if all(process.poll() is not None for process in processes):
            assert [process.wait() for process in processes] == [0] * len(processes), processes[0].printed[-2000:]
            return kills
        kills += 1
        for process in chance.sample(processes, chance.randint(1, len(processes))):
            process.send(9)
        for (
            process
        ) in processes:  # one that waits to meet another at the start is ended by who started it, as torchrun does
            process.end(20)


@pytest.mark.nightly
def test_a_run_that_was_killed_at_random_moments_ends_as_one_that_was_not(
    whole: Path, nursery: Nursery, tmp_path: Path
) -> None:
    chance, kills = random.Random(0), 0
    for number in count():
        command = ("train", f"run_dir={tmp_path / str(number)}", *SETTINGS)
        kills += kill_at_random(lambda: [nursery.start(*command, log=tmp_path / "log")], chance, seconds=4.0, most=4)  # noqa: B023
        assert differences(whole, tmp_path / str(number)) == []
        if kills >= 20:
            break


@pytest.mark.nightly
def test_the_processes_of_one_run_end_when_one_of_them_is_killed_and_go_on_exactly(
    nursery: Nursery, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    def run(name: str, patch: str = "") -> list[int]:
        command = ("train", f"run_dir={tmp_path / name}", *SETTINGS, *FEWER)
        processes = ranks(nursery, *command, log=tmp_path / f"{name}.log", port=free_port(), patch=patch)
        return [process.wait() for process in processes]

    assert run("whole") == [0, 0]
    dies = "if os.environ['LOCAL_RANK'] == '1':\n    from vaezoo.models import Autoencoder\n"
    dies += "    kill_in(Autoencoder, 'record_step', lambda calls: calls[-1][0].global_step == 14)"
    codes = run("killed", KILL + dies)
    assert codes[1] == -9
    assert codes[0] == 1
    printed = (tmp_path / "killed.0.log").read_text()
    assert "error: another process of this run has ended" in printed
    assert run("killed") == [0, 0]
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_two_processes_killed_together_or_alone_end_as_two_that_were_not(
    seed: int, nursery: Nursery, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    def start(name: str) -> list[Process]:
        command = ("train", f"run_dir={tmp_path / name}", *SETTINGS, *FEWER)
        return ranks(nursery, *command, log=tmp_path / f"{name}.log", port=free_port())

    assert [process.wait() for process in start("whole")] == [0, 0]
    kill_at_random(lambda: start("killed"), random.Random(seed), seconds=5.0, most=3)
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
