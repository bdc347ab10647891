"""Ctrl-C ends every command at any moment, and nothing outlives what started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.kills import ROOT, session
from vaezoo import Run
from vaezoo.distributed import interrupts

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in Linux's /proc")

SECONDS = 10.0
"""In which everything has ended on a busy machine."""

TRAIN = [str(ROOT / "train.py"), "model.widths=[16]", "callbacks=none", "data.limit=64", "evaluation=none"]
TRAIN += ["trainer.max_epochs=99999", "logger.tensorboard=null"]

Start = Callable[..., "Program"]


class Program:
    """A Python program in a session of its own; what it prints is in ``log``."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.log = cwd / "log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "VAEZOO_CACHE": str(cwd)}
        with self.log.open("wb") as file:
            pipes: Any = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL}
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=cwd, env=environment, start_new_session=True, **pipes
            )

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def interrupt(self) -> None:
        """As a terminal does: the whole group gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self) -> int:
        """Its exit code, when all that it has started has ended too; AssertionError if that takes long."""
        until = time.monotonic() + SECONDS
        while session(self.process.pid):
            self.process.poll()
            assert time.monotonic() < until, f"still there: {session(self.process.pid)}\n{self.printed}"
            time.sleep(0.02)
        return self.process.wait()

    def wait_for(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < until, self.printed
            time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Python program; it does not outlive the test."""
    started = []

    def run(*words: str) -> Program:
        started.append(Program(list(words), tmp_path))
        return started[-1]

    yield run
    for program in started:
        for process in session(program.process.pid):
            os.kill(process, signal.SIGKILL)
        program.process.wait()


def assert_interrupted(program: Program, *, begun: bool = True) -> None:
    """It ended with 130. Before it has ``begun`` with our code, Python itself may die of the signal, or complain."""
    code = program.wait()
    if not begun and code != 130 and str(ROOT) not in program.printed:
        assert code in (-signal.SIGINT, 1)
        return
    assert code in (130, -signal.SIGINT) if not begun else code == 130, program.printed
    assert "Traceback" not in program.printed


def moments(few: list[float], many: list[float]) -> list[Any]:
    return [*few, *(pytest.param(moment, marks=pytest.mark.nightly) for moment in many if moment not in few)]


# a training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", moments([0.1, 0.6, 1.1], [0.05 + step / 10 for step in range(60)]))
def test_ctrl_c_ends_a_training_at_any_moment(moment: float, start: Start, tmp_path: Path) -> None:
    program = start(*TRAIN, "run_dir=run")
    time.sleep(moment)
    program.interrupt()
    assert_interrupted(program, begun=moment > 0.5)
    assert not list(tmp_path.rglob("*.new"))
    for path in tmp_path.rglob("*.ckpt"):
        torch.load(path, weights_only=True)
    if (tmp_path / "run" / "summary.json").exists():
        assert Run(tmp_path / "run").summary["status"] == "interrupted"


@pytest.mark.parametrize("moment", moments([1.0], [step / 2 for step in range(16)]))
def test_ctrl_c_ends_both_processes_of_a_training(moment: float, start: Start, tmp_path: Path) -> None:
    """``moment`` is counted from the start of the second, when the first listens already and waits for it."""
    program = start(*TRAIN, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "run_dir=run")
    program.wait_for(lambda: "objective" in program.printed)
    program.wait_for(lambda: sum(name.startswith("python") for name in session(program.process.pid).values()) == 2)
    time.sleep(moment)
    program.interrupt()
    assert_interrupted(program)
    assert Run(tmp_path / "run").summary["status"] == "interrupted"


def test_no_library_can_catch_ctrl_c(start: Start) -> None:
    program = start(
        "-c",
        "import time\nfrom vaezoo.distributed import interrupts\n"
        "def library():\n"
        "    print('begun', flush=True)\n"
        "    while True:\n"
        "        try:\n            time.sleep(0.01)\n        except BaseException:\n            pass\n"
        "interrupts.run(library)",
    )
    program.wait_for(lambda: "begun" in program.printed)
    program.interrupt()
    assert_interrupted(program)


# other commands ------------------------------------------------------------------------------------------------------

COMMANDS = {
    "evaluate": ["evaluate", "RUN"],
    "export": ["export", "RUN", "out=out/model", "program=torch"],
    "compare": ["compare", "RUN", "out=out"],
    "benchmark": ["benchmark", "models=[ae,vae]", "seeds=[0]", "out=out", "jobs=2", *TRAIN[1:4], "evaluate.quick=true"],
    "sweep": ["train", "-m", *TRAIN[1:], "run_dir=out", "seed=0,1"],
    "list": ["list"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    program = Program([*TRAIN, "callbacks=default", "trainer.max_epochs=2", "run_dir=run"], folder)
    assert program.process.wait() == 0, program.printed
    return folder / "run"


@pytest.mark.parametrize(
    ("command", "moment"),
    [
        ("export", 0.8),
        ("benchmark", 1.5),
        *(
            pytest.param(command, 0.1 + step * 0.4, marks=pytest.mark.nightly)
            for command in COMMANDS
            for step in range(2 if command == "list" else 16)
        ),
    ],
)
def test_ctrl_c_ends_other_commands_at_any_moment(
    command: str, moment: float, finished: Path, start: Start, tmp_path: Path
) -> None:
    program = start("-m", "vaezoo", *(str(finished) if word == "RUN" else word for word in COMMANDS[command]))
    time.sleep(moment)
    if program.process.poll() == 0:
        return  # it was quicker
    program.interrupt()
    if program.process.wait(SECONDS) != 0:
        assert_interrupted(program, begun=moment > 0.5)
    program.wait()
    assert "Traceback" not in program.printed or moment <= 0.5
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".new")]
    assert not list((tmp_path / "out").glob(".model.*"))
    assert not list(finished.rglob("*.new"))


def test_a_command_that_is_interrupted_removes_what_it_had_begun_and_ends_even_where_that_is_caught(
    start: Start, tmp_path: Path
) -> None:
    command = (
        "import tempfile, time\nfrom vaezoo.distributed import interrupts\n"
        "interrupts.CLEANING_SECONDS = 1.0\n"
        "def command():\n"
        "    with interrupts.cleaning_up(), tempfile.TemporaryDirectory(dir='.'):\n"
        "        try:\n            print('begun', flush=True)\n"
        "            while True:\n                time.sleep(0.01)\n"  # a long sleep could begin after the signal came
        "        except KeyboardInterrupt:\n            CAUGHT\n"
        "interrupts.run(command)"
    )
    for answer, kept in (("raise", 0), ("time.sleep(60)", 1)):
        program = start("-c", command.replace("CAUGHT", answer))
        program.wait_for(lambda: "begun" in program.printed)  # noqa: B023
        program.interrupt()
        assert_interrupted(program)
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == kept


def test_handlers_of_other_programs_stay() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts.cleaning_up():
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


# what is started -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(
            pytest.param(number, marks=pytest.mark.nightly)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        ),
    ],
)
def test_the_look_ahead_of_a_benchmark_does_not_outlive_it(number: signal.Signals, start: Start) -> None:
    program = start("-m", "vaezoo", *COMMANDS["benchmark"])
    program.wait_for(lambda: len(session(program.process.pid)) == 2)
    os.kill(program.process.pid, number)
    assert program.wait() == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in program.printed


STUBBORN = """
import signal, sys, time
from vaezoo.distributed import interrupts
interrupts.GRACE_SECONDS = 1.0
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
def work():
    print("begun", flush=True)
    while True:
        time.sleep(0.1)
interrupts.run(work)
"""

STARTS = """
import os, sys, time
from pathlib import Path
from vaezoo.benchmark import executor, local_pool
task = executor.Task("task", (sys.executable, "-c", {stubborn!r}), Path("task.log"))
local_pool.start(task, dict(os.environ))
time.sleep(60)
"""


def test_a_process_of_a_benchmark_that_does_not_stop_is_ended(start: Start, tmp_path: Path) -> None:
    program, log = start("-c", STARTS.format(stubborn=STUBBORN)), tmp_path / "task.log"
    program.wait_for(lambda: log.exists() and "begun" in log.read_text().splitlines())
    program.process.kill()
    assert program.wait() == -signal.SIGKILL
    assert "asked" in log.read_text().splitlines()


def test_a_program_that_something_else_starts_meanwhile_goes_on(start: Start) -> None:
    """It inherits the name of a starter that is not its parent."""
    inner = f"{sys.executable} -c 'from vaezoo.distributed import interrupts; interrupts.run(lambda: print(\"whole\"))'"
    program = start("-c", f"import os; os.environ[{interrupts.STARTED_BY!r}] = str(os.getpid()); os.system({inner!r})")
    assert program.wait() == 0
    assert program.printed.splitlines() == ["whole"]
