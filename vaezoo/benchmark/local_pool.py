"""Processes, so many at a time, each with its share of the machine and a log file. They know no runs."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from vaezoo.benchmark.executor import Executor, Outcome, Task
from vaezoo.distributed import threads
from vaezoo.distributed.interrupts import STARTED_BY

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class _Process:
    """A task at work in one of the pool's places."""

    process: subprocess.Popen[bytes]
    slot: int
    since: float


@dataclass
class Pool(Executor):
    """Runs tasks as processes, ``jobs`` at a time. ``gpus`` are shared out by turns."""

    poll_seconds = 0.2

    jobs: int
    gpus: Sequence[str] = ()
    _taken: set[int] = field(default_factory=set)

    @property
    def limit(self) -> int:
        return self.jobs

    def share_gpus(self, gpus: Sequence[str]) -> None:
        self.gpus = gpus if self.jobs > 1 else ()

    def submit(self, tasks: Sequence[Task]) -> Iterator[_Process]:
        for task in tasks:
            slot = next(slot for slot in count() if slot not in self._taken)
            process = start(task, self.environment(slot), self.inherit)
            self._taken.add(slot)
            yield _Process(process, slot, time.monotonic())

    def outcome(self, job: _Process) -> Outcome | None:
        if job.process.poll() is None:
            return None
        self._taken.discard(job.slot)
        return Outcome(job.process.returncode, time.monotonic() - job.since)

    def cancel(self, jobs: Sequence[_Process], *, at_once: bool) -> None:
        """As Ctrl-C does; or kill them, with those that they have started."""
        for job in jobs:
            if not at_once:
                job.process.send_signal(signal.SIGINT)
                continue
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
        for job in jobs if at_once else ():
            job.process.wait()

    def environment(self, slot: int) -> dict[str, str]:
        """The environment of a process: its threads, its GPU where there are several, and how many run beside it."""
        at_once = -(-min(self.jobs, self._planned or self.jobs) // max(1, len(self.gpus)))
        share = str(max(1, threads.granted() // self.jobs))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, share), **gpu, "PYTHONUNBUFFERED": "1"} | {
            threads.RUNS_AT_ONCE: str(at_once)
        }


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
