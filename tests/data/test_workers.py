"""Workers of loaders end with their run in whatever way it ends, and decode the batch in hand until then."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.kills import ROOT, Nursery, Process, ranks, workers

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in Linux's /proc")

SECONDS = 2.0
"""In which workers have ended after what ends their run, which then takes the interpreter down, in a second or two."""

GONE = 10.0
"""Seconds in which the run itself has ended at the latest."""

SETTINGS = (
    "data=image_folder",
    "data.image_size=8",
    "data.channels=1",
    "data.batch_size=16",
    "data.num_workers=2",
    "data.in_memory=false",
    "model.widths=[16]",
    "callbacks=none",
    "logger.tensorboard=null",
)
TRAINING = ("train", "model=vae", "evaluation=none", "trainer.log_every_n_steps=1", "resume=auto")

SLOW = """
import os, time
from vaezoo.data.files import ImageFiles
read, run = ImageFiles.__getitems__, os.getpid()
def slow(self, positions):
    time.sleep({seconds} if os.getpid() != run else 0)
    return read(self, positions)
ImageFiles.__getitems__ = slow
"""
"""Code that has workers take so long for each batch."""

STUCK = """
import os, time
from vaezoo.data.files import ImageFiles
from vaezoo.models import Autoencoder
read, record_step, run, seen = ImageFiles.__getitems__, Autoencoder.record_step, os.getpid(), []
def stuck(self, positions):
    if os.getpid() != run:
        seen.append(positions)
        time.sleep(60 if len(seen) > 3 else 0)
    return read(self, positions)
def failing(self, *arguments):
    record_step(self, *arguments)
    if self.global_step == 5:
        time.sleep(0.5)
        raise RuntimeError("it fails")
ImageFiles.__getitems__, Autoencoder.record_step = stuck, failing
"""
"""Code that has a run fail while its workers take a minute for the batches to come."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("images")
    for number in range(160):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(folder / f"{number}.png")
    return f"data.root={folder}"


def to_the_process(run: Process, number: int) -> None:
    run.send(number)


def to_its_group(run: Process, number: int) -> None:
    os.killpg(run.pid, number)


def to_every_process(run: Process, number: int) -> None:
    """As SLURM signals a step. Workers come first, so that none is saved by the end of its run."""
    for process in workers(run.pid):
        os.kill(process, number)
    run.send(number)


def seconds_until_gone(*leaders: int) -> float:
    """How long the workers of some sessions take from now to end; AssertionError if they do not."""
    began = time.monotonic()
    while left := [process for leader in leaders for process in workers(leader)]:
        if time.monotonic() - began > 30:
            for process in left:
                os.kill(process, signal.SIGKILL)
            raise AssertionError(f"workers are still there: {left}")
        time.sleep(0.02)
    return time.monotonic() - began


def wait_for_workers(run: Process) -> None:
    until = time.monotonic() + 60
    while len(workers(run.pid)) < 2:
        assert time.monotonic() < until, run.printed
        assert run.poll() is None, run.printed
        time.sleep(0.02)


def start(nursery: Nursery, images: str, folder: Path, *settings: str, patch: str = "") -> Process:
    words = (*TRAINING, f"run_dir={folder / 'run'}", images, *SETTINGS, *settings)
    return nursery.start(*words, log=folder / "log", patch=patch)


def status(folder: Path) -> str:
    return str(json.loads((folder / "run" / "summary.json").read_text())["status"])


def wait_for_status(folder: Path, wanted: str) -> None:
    until = time.monotonic() + 60
    while not (folder / "run" / "summary.json").exists() or status(folder) != wanted:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_they_end_when_the_run_has_finished(nursery: Nursery, images: str, tmp_path: Path) -> None:
    run = start(nursery, images, tmp_path, "trainer.max_epochs=2")
    run.wait_for("epoch 1")
    assert len(workers(run.pid)) >= 2
    wait_for_status(tmp_path, "finished")
    assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(GONE) == 0, run.printed


def test_they_end_in_the_middle_of_a_batch_when_the_run_has_failed(
    nursery: Nursery, images: str, tmp_path: Path
) -> None:
    run = start(nursery, images, tmp_path, "trainer.max_epochs=2", patch=STUCK)
    wait_for_status(tmp_path, "failed")
    assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(GONE) == 1
    assert "RuntimeError: it fails" in run.printed


SIGNALS = [
    pytest.param(to_every_process, signal.SIGTERM, 143),
    pytest.param(to_its_group, signal.SIGINT, 130),
    *(
        pytest.param(whom, number, code, marks=pytest.mark.nightly)
        for whom in (to_the_process, to_its_group, to_every_process)
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143))
        if (whom, number) not in ((to_every_process, signal.SIGTERM), (to_its_group, signal.SIGINT))
    ),
]


@pytest.mark.parametrize(("whom", "number", "code"), SIGNALS)
def test_a_run_that_is_stopped_has_its_batch_and_ends_with_its_workers(
    whom: Callable[[Process, int], None], number: int, code: int, nursery: Nursery, images: str, tmp_path: Path
) -> None:
    run = start(nursery, images, tmp_path, "trainer.max_epochs=9999", patch=SLOW.format(seconds=0.2))
    run.wait_for("epoch 1")
    time.sleep(0.3)  # until the next batches are decoded, after a validation
    whom(run, number)
    assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(GONE) == code, run.printed
    assert "interrupted; resume with: python train.py resume=" in run.printed
    assert "Traceback" not in run.printed
    assert status(tmp_path) == "interrupted"
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] >= 8


@pytest.mark.parametrize("whom", [to_the_process, pytest.param(to_its_group, marks=pytest.mark.nightly)])
def test_a_signal_while_workers_start_leaves_them_at_work(
    whom: Callable[[Process, int], None], nursery: Nursery, images: str, tmp_path: Path
) -> None:
    begins = "import os, signal\nfrom vaezoo.data import workers\nplain = workers.leave_signals_to_the_run\n"
    begins += "def asked(worker):\n    os.killpg(os.getpgid(0), signal.SIGTERM)\n    plain(worker)\n"
    begins += "from vaezoo.data import loader\nloader.leave_signals_to_the_run = asked\n"
    if whom is to_the_process:
        begins = begins.replace("os.killpg(os.getpgid(0), ", "os.kill(os.getpid(), ")
        begins = begins.replace("plain(worker)", "plain(worker)\n    os.kill(os.getppid(), signal.SIGTERM)")
    run = start(nursery, images, tmp_path, "trainer.max_epochs=9999", patch=begins)
    assert run.wait() == 143, run.printed  # with the time that it takes to start
    assert status(tmp_path) == "interrupted"
    assert seconds_until_gone(run.pid) < SECONDS


@pytest.mark.parametrize("how", ["killed", pytest.param("second Ctrl-C", marks=pytest.mark.nightly)])
def test_they_do_not_outlive_a_run_that_is_ended_at_once(
    how: str, nursery: Nursery, images: str, tmp_path: Path
) -> None:
    run = start(nursery, images, tmp_path, "trainer.max_epochs=9999", patch=SLOW.format(seconds=1))
    wait_for_workers(run)
    time.sleep(1)
    if how == "killed":
        run.send(signal.SIGKILL)
    else:
        for _ in range(2):
            run.send(signal.SIGINT)
            time.sleep(0.1)
    assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(GONE) == (-9 if how == "killed" else 130)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGTERM])
def test_those_that_decode_everything_end_with_an_evaluation_that_is_stopped(
    number: signal.Signals, nursery: Nursery, images: str, tmp_path: Path
) -> None:
    code, printed = nursery.run(
        *TRAINING, f"run_dir={tmp_path / 'run'}", images, *SETTINGS, "trainer.max_epochs=1", "data.in_memory=true",
        log=tmp_path / "log",
    )  # fmt: skip
    assert code == 0, printed
    run = nursery.start("evaluate", str(tmp_path / "run"), log=tmp_path / "log", patch=SLOW.format(seconds=60))
    wait_for_workers(run)
    time.sleep(0.3)
    to_its_group(run, number)
    assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(GONE) == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in run.printed
    assert not (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_two_processes_end_with_all_of_their_workers(
    number: signal.Signals, nursery: Nursery, images: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    words = (*TRAINING, f"run_dir={tmp_path / 'run'}", images, *SETTINGS, "trainer.max_epochs=9999")
    runs = ranks(nursery, *words, log=tmp_path / "log", port=free_port(), patch=SLOW.format(seconds=0.1))
    runs[0].wait_for("epoch 1")
    assert all(len(workers(run.pid)) >= 2 for run in runs)
    for run in runs:
        to_every_process(run, number)
    assert seconds_until_gone(*(run.pid for run in runs)) < SECONDS
    codes = {signal.SIGTERM: [143, 0], signal.SIGINT: [130, 0], signal.SIGKILL: [-9, -9]}
    assert [run.wait() for run in runs] == codes[number], runs[0].printed
    if number != signal.SIGKILL:
        assert status(tmp_path) == "interrupted"


@pytest.mark.nightly
@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT])
def test_two_processes_that_lightning_starts_end_with_all_of_their_workers(
    number: signal.Signals | None, images: str, tmp_path: Path
) -> None:
    several = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    epochs = f"trainer.max_epochs={9999 if number else 2}"
    words = (*TRAINING, f"run_dir={tmp_path / 'run'}", images, *SETTINGS, *several, epochs)
    run = begin(*words, log=tmp_path / "log")
    wait_for_line(run, tmp_path / "log", "epoch 1")
    if number is not None:
        os.killpg(run.pid, number)
        assert seconds_until_gone(run.pid) < SECONDS
    assert run.wait(60 if number is None else GONE) == {None: 0, signal.SIGTERM: 143, signal.SIGINT: 130}[number], (
        tmp_path / "log"
    ).read_text()
    assert seconds_until_gone(run.pid) < SECONDS


@pytest.mark.nightly
@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_benchmark_ends_with_the_workers_of_all_of_its_runs(
    number: signal.Signals | None, images: str, tmp_path: Path
) -> None:
    epochs = f"trainer.max_epochs={9999 if number else 1}"
    few = ("evaluate.quick=true", *(word for word in SETTINGS if "logger" not in word and "callbacks" not in word))
    words = ("benchmark", "models=[ae,vae]", "seeds=[0]", "jobs=2", f"out={tmp_path / 'out'}", epochs, images, *few)
    run = begin(*words, log=tmp_path / "log")
    if number is not None:
        for name in ("ae", "vae"):
            wait_for_line(run, tmp_path / "out" / f"{name}-seed_0" / "benchmark.log", "epoch 1")
        to = os.kill if number == signal.SIGKILL else os.killpg
        assert len(workers(run.pid)) >= 4
        to(run.pid, number)
        assert seconds_until_gone(run.pid) < SECONDS
    codes = {None: 0, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}
    assert run.wait(120 if number is None else GONE) == codes[number], (tmp_path / "log").read_text()
    assert seconds_until_gone(run.pid) < SECONDS


def begin(*words: str, log: Path) -> "subprocess.Popen[bytes]":
    """The program in a session of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "vaezoo", *words]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)


def wait_for_line(run: "subprocess.Popen[bytes]", log: Path, sentence: str) -> None:
    until = time.monotonic() + 60
    while not log.exists() or sentence not in log.read_text(errors="replace"):
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
