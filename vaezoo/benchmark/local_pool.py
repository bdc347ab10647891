"""Processes, so many at a time, each with its share of the machine and a log file. They know no runs."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaezoo.distributed import threads
from vaezoo.distributed.interrupts import GRACE_SECONDS, STARTED_BY

POLL_SECONDS = 0.2
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """A signal asked to stop, and all processes have ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Task:
    """A command to run, by a name that is unique; what it says is added to ``log``."""

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass
class Pool:
    """Runs tasks, ``jobs`` at a time. ``gpus`` are shared out by turns; ``inherit`` are descriptors to keep open."""

    jobs: int
    gpus: Sequence[str] = ()
    inherit: Sequence[int] = ()
    _asked: list[int] = field(default_factory=list)
    _at_once: int = 0

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """Run all; ``ended`` gets each with its exit code and seconds, ``watch`` now and then those that run.

        Raises StoppedError after SIGINT, SIGTERM or SIGHUP, when all that had been started have ended. A second
        signal ends them at once.
        """
        waiting, running = list(tasks), dict[int, tuple[Task, subprocess.Popen[bytes], float]]()
        self._at_once = min(self.jobs, len(tasks))
        with listening(self._asked):
            try:
                while (waiting or running) and not self._asked:
                    for slot in range(self.jobs):
                        if slot not in running and waiting:
                            task = waiting.pop(0)
                            running[slot] = (task, start(task, self.environment(slot), self.inherit), time.monotonic())
                    time.sleep(POLL_SECONDS)
                    for slot, (task, process, since) in list(running.items()):
                        if process.poll() is not None:
                            del running[slot]
                            ended(task, process.returncode, time.monotonic() - since)
                    watch([task for task, _, _ in running.values()])
            finally:
                self._stop([process for _, process, _ in running.values()])
            if self._asked:
                raise StoppedError(self._asked[0])

    def check(self) -> None:
        """Nothing can be missing."""

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait until no command writes to one of these logs, also if it was started by another launcher."""
        wait_until_none(lambda: sum(map(is_at_work, logs)), self._asked, say, lambda: None)

    def environment(self, slot: int) -> dict[str, str]:
        """The environment of a process: its threads, its GPU where there are several, and how many run beside it."""
        at_once = -(-(self._at_once or self.jobs) // max(1, len(self.gpus)))
        share = str(max(1, threads.granted() // self.jobs))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, share), **gpu, "PYTHONUNBUFFERED": "1"} | {
            threads.RUNS_AT_ONCE: str(at_once)
        }

    def _stop(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Ask processes to end as Ctrl-C does, and kill what has not after a while or at a second signal."""
        for process in processes:
            process.send_signal(signal.SIGINT)
        until, asked = time.monotonic() + GRACE_SECONDS, len(self._asked)
        while any(process.poll() is None for process in processes):
            if time.monotonic() > until or len(self._asked) > asked:
                for process in processes:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # with those that it has started
            time.sleep(POLL_SECONDS)


def wait_until_none(
    count: Callable[[], int], asked: list[int], say: Callable[[str], None], cancel: Callable[[], None]
) -> None:
    """Wait for what an earlier command started, by how much of it is at work; StoppedError after a signal."""
    told = 0
    with listening(asked):
        while left := count():
            if asked:
                cancel()
                raise StoppedError(asked[0])
            if left != told:
                say(f"waiting for {left} job{'s'[: left > 1]} of an earlier command; Ctrl-C stops")
            told = left
            time.sleep(POLL_SECONDS)


def start(task: Task, environment: dict[str, str], inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a task's command, which does not outlive this process. As long as it runs, its log is locked."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        print("$", subprocess.list2cmdline(task.command), file=log, flush=True)
        return subprocess.Popen(
            task.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=tuple(inherit),
            **bound(environment),
        )


def bound(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for ``subprocess`` that bind a process to this one: it is asked to stop when this one has ended.

    It has a process group of its own, so that Ctrl-C on the terminal comes here only, and is passed on once.
    """
    this = os.getpid()
    return {"env": {**environment, STARTED_BY: str(this)}, "process_group": 0, "preexec_fn": _end_with(this)}


def is_at_work(log: Path) -> bool:
    """Whether a command that writes to a log still runs, here or wherever else the folder is seen."""
    try:
        with log.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or the file system has no locks
        return False
    return False


@contextmanager
def listening(asked: list[int]) -> Iterator[None]:
    """Have signals that ask to stop added to a list."""
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with(parent: int) -> Callable[[], None] | None:
    """On Linux: what a new process does to be told to end when its parent has been killed."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1

    def prepare() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM's word to a job, whose own process passes it on
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed in between
            os._exit(1)

    return prepare
