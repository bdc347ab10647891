"""A run that is asked to stop saves where it is, says so, and goes on from there."""

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.kills import Nursery, differences, ranks
from vaezoo.training.callbacks import Stopping

SETTINGS = (
    "model=vae",
    "model.widths=[16]",
    "callbacks=none",
    "data.binarize=dynamic",
    "data.limit=128",
    "evaluation=none",
    "trainer.max_epochs=5",
    "trainer.log_every_n_steps=1",
    "resume=auto",
)
"""Four steps an epoch, and no checkpoint in between, since ten seconds do not go by."""

SEND = """
import os, signal
from vaezoo.models import Autoencoder
record_step = Autoencoder.record_step
def sending(self, *arguments):
    record_step(self, *arguments)
    if self.global_step == {step} and os.environ.get("LOCAL_RANK", "{rank}") == "{rank}":
        for _ in range({times}):
            os.kill(os.getpid(), signal.{name})
Autoencoder.record_step = sending
"""


def send(name: str, step: int, *, rank: int = 0, times: int = 1) -> str:
    """Code that has a run get a signal while it computes the step after ``step``."""
    return SEND.format(name=name, step=step, rank=rank, times=times)


def status(folder: Path) -> str:
    return str(json.loads((folder / "summary.json").read_text())["status"])


def saved_step(folder: Path) -> int:
    return int(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"])


def test_a_run_that_was_stopped_by_each_signal_in_turn_ends_as_one_that_was_not(
    nursery: Nursery, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert nursery.run("train", f"run_dir={tmp_path / 'whole'}", *SETTINGS, log=log)[0] == 0
    # In the middle of an epoch; at its last batch, where the validation comes first; through Lightning's loop.
    for name, code, after, stops_at, how in (
        ("SIGTERM", 143, 1, 2, "stepping=fast"),
        ("SIGINT", 130, 7, 8, "stepping=fast"),
        ("SIGUSR1", 143, 9, 10, "stepping=lightning"),
    ):
        patch = send(name, after)
        ended, printed = nursery.run("train", f"run_dir={run}", *SETTINGS, how, log=log, patch=patch)
        assert ended == code, printed
        assert f"interrupted; resume with: python train.py resume={run}" in printed
        assert "Traceback" not in printed
        assert status(run) == "interrupted"
        assert saved_step(run) == stops_at
    patch = "from vaezoo.models import Autoencoder as kind\ntest = kind.on_test_epoch_start\nimport os\n"
    patch += "kind.on_test_epoch_start = lambda self: (test(self), os.kill(os.getpid(), 15))"
    ended, printed = nursery.run("train", f"run_dir={run}", *SETTINGS, log=log, patch=patch)
    assert ended == 143, printed
    assert status(run) == "interrupted"
    never = "from vaezoo.models import Autoencoder as kind\nkind.record_step = None"  # nothing is left to train
    ended, printed = nursery.run("train", f"run_dir={run}", *SETTINGS, log=log, patch=never)
    assert ended == 0, printed
    assert differences(tmp_path / "whole", run) == []


def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_stays_good(nursery: Nursery, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    often = "callbacks.last.min_seconds=0"
    patch = send("SIGINT", 6, times=2)
    ended, printed = nursery.run("train", f"run_dir={run}", *SETTINGS, often, log=log, patch=patch)
    assert ended == 130
    assert "stopped at once" in printed
    assert saved_step(run) == 4
    assert not (run / "summary.json").exists()


def test_a_second_ctrl_c_ends_a_process_that_waits_for_another_one(
    nursery: Nursery, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0", "LOCAL_RANK": "0"}
    several = ("trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy=ddp", "trainer.accelerator=cpu")
    words = ("train", f"run_dir={tmp_path / 'run'}", *SETTINGS, *several)
    process = nursery.start(*words, log=tmp_path / "log", **shared)
    process.wait_for("objective")
    time.sleep(1)  # it waits in torch, which calls no handler
    process.send(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send(signal.SIGINT)
    assert process.wait(5) == 130
    assert "stopped at once" in process.printed


@pytest.mark.parametrize(
    ("rank", "name", "code"),
    [(1, "SIGINT", 130), pytest.param(0, "SIGTERM", 143, marks=pytest.mark.nightly)],
)
def test_all_processes_of_a_run_stop_when_one_of_them_is_asked_to(
    rank: int, name: str, code: int, nursery: Nursery, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    command = ("train", f"run_dir={tmp_path / 'run'}", *SETTINGS)
    patch = send(name, 4, rank=rank)
    processes = ranks(nursery, *command, log=tmp_path / "log", port=free_port(), patch=patch)
    assert [process.wait() for process in processes] == [code, 0], processes[0].printed
    assert status(tmp_path / "run") == "interrupted"
    assert saved_step(tmp_path / "run") == 6  # what all agree on is known a batch later


@pytest.mark.nightly
def test_all_processes_of_a_run_stop_when_the_whole_group_is_asked_to(
    nursery: Nursery, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    command = ("train", f"run_dir={tmp_path / 'run'}", *SETTINGS)
    patch = send("SIGTERM", 4).replace('os.environ.get("LOCAL_RANK", "0") == "0"', "True")
    processes = ranks(nursery, *command, log=tmp_path / "log", port=free_port(), patch=patch)
    assert [process.wait() for process in processes] == [143, 0], processes[0].printed
    assert status(tmp_path / "run") == "interrupted"


def test_handlers_of_before_are_put_back_and_one_of_a_launcher_stays() -> None:
    def launcher(*_: object) -> None: ...

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGUSR1, launcher)
    try:
        with Stopping().listening():
            assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
            assert signal.getsignal(signal.SIGINT) is not before[signal.SIGINT]
            assert signal.getsignal(signal.SIGUSR1) is launcher
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGUSR1, before[signal.SIGUSR1])


def test_outside_of_the_main_thread_no_handler_is_installed() -> None:
    before, during = signal.getsignal(signal.SIGTERM), []

    def listen() -> None:
        with Stopping().listening():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert during == [before]
