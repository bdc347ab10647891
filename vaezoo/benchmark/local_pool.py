"""A pool of processes on this machine, each with its threads, GPU and log file."""

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
RUNS_AT_ONCE = "VAEZOO_RUNS_AT_ONCE"
"""Environment variable with the number of runs on a device at the same time; recorded by ``callbacks.timing``."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """A signal asked to stop, and all processes have exited."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@dataclass(frozen=True)
class Task:
    """A command with a unique name; its output is appended to ``log``."""

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass
class Pool:
    """Runs tasks as processes, ``jobs`` at a time. ``gpus`` are assigned in turn; ``inherit`` are file descriptors."""

    jobs: int
    gpus: Sequence[str] = ()
    inherit: Sequence[int] = ()
    _signals: list[int] = field(default_factory=list)
    _at_once: int = 0

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """Run all tasks. ``ended`` is called with the exit code and seconds of each, ``watch`` with the running ones.

        Raises StoppedError after SIGINT, SIGTERM or SIGHUP, once all processes have exited; a second signal kills them.
        """
        waiting, running = list(tasks), dict[int, tuple[Task, subprocess.Popen[bytes], float]]()
        self._at_once = min(self.jobs, len(tasks))
        with listening(self._signals):
            try:
                while (waiting or running) and not self._signals:
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
            if self._signals:
                raise StoppedError(self._signals[0])

    def check(self) -> None:
        """No requirements."""

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait until no process writes to any of these logs, whichever launcher started it."""
        wait_until_none(lambda: sum(map(is_at_work, logs)), self._signals, say, lambda: None)

    def environment(self, slot: int) -> dict[str, str]:
        """Environment of the process in a slot: thread counts, the GPU if there are several, and ``RUNS_AT_ONCE``."""
        at_once = -(-(self._at_once or self.jobs) // max(1, len(self.gpus)))
        count = str(max(1, threads.budget() // self.jobs))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, count), **gpu, "PYTHONUNBUFFERED": "1"} | {
            RUNS_AT_ONCE: str(at_once)
        }

    def _stop(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Interrupt processes as Ctrl-C does; kill them after ``GRACE_SECONDS`` or at a second signal."""
        for process in processes:
            process.send_signal(signal.SIGINT)
        until, received = time.monotonic() + GRACE_SECONDS, len(self._signals)
        while any(process.poll() is None for process in processes):
            if time.monotonic() > until or len(self._signals) > received:
                for process in processes:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # including its child processes
            time.sleep(POLL_SECONDS)


def wait_until_none(
    count: Callable[[], int], signals: list[int], say: Callable[[str], None], cancel: Callable[[], None]
) -> None:
    """Wait until ``count`` is 0; a signal calls ``cancel`` and raises StoppedError."""
    reported = 0
    with listening(signals):
        while left := count():
            if signals:
                cancel()
                raise StoppedError(signals[0])
            if left != reported:
                say(f"waiting for {left} job{'s'[: left > 1]} of an earlier command; Ctrl-C stops")
            reported = left
            time.sleep(POLL_SECONDS)


def start(task: Task, environment: dict[str, str], inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start a task's command. It is stopped when this process exits, and holds a lock on its log while it runs."""
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
            **child_options(environment),
        )


def child_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of ``subprocess`` for a child that is asked to stop when this process exits.

    It gets its own process group, so that Ctrl-C reaches only this process, which forwards it once.
    """
    this = os.getpid()
    return {"env": {**environment, STARTED_BY: str(this)}, "process_group": 0, "preexec_fn": _end_with(this)}


def is_at_work(log: Path) -> bool:
    """Whether a process that writes to this log is still running, here or on another machine that shares the folder."""
    try:
        with log.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no log, or the file system has no locks
        return False
    return False


@contextmanager
def listening(signals: list[int]) -> Iterator[None]:
    """Append the signals in ``STOPPING`` to a list instead of stopping."""
    before = {number: signal.signal(number, lambda got, _: signals.append(got)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with(parent: int) -> Callable[[], None] | None:
    """On Linux, a function with which a new process arranges to get SIGTERM when its parent exits; else None."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1

    def prepare() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all; the job's process forwards it
        prctl(set_parent_death_signal, signal.SIGTERM)
        if os.getppid() != parent:  # the parent exited before prctl
            os._exit(1)

    return prepare
