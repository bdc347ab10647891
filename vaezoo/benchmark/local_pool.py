"""A pool of processes on this machine, each with its threads, GPU and log file."""

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

from vaezoo.benchmark.executor import Executor, JobResult, Task
from vaezoo.distributed import threads
from vaezoo.distributed.interrupts import STARTED_BY

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class _Process:
    """A running task and its slot."""

    process: subprocess.Popen[bytes]
    slot: int
    since: float


@dataclass
class Pool(Executor):
    """Runs tasks as processes, ``jobs`` at a time. ``gpus`` are assigned in turn."""

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

    def result(self, job: _Process) -> JobResult | None:
        if job.process.poll() is None:
            return None
        self._taken.discard(job.slot)
        return JobResult(job.process.returncode, time.monotonic() - job.since)

    def cancel(self, jobs: Sequence[_Process], *, at_once: bool) -> None:
        """Interrupt processes as Ctrl-C does, or kill them with their child processes."""
        for job in jobs:
            if not at_once:
                job.process.send_signal(signal.SIGINT)
                continue
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
        for job in jobs if at_once else ():
            job.process.wait()

    def environment(self, slot: int) -> dict[str, str]:
        """Environment of the process in a slot: thread counts, the GPU if there are several, and ``RUNS_AT_ONCE``."""
        at_once = -(-min(self.jobs, self._planned or self.jobs) // max(1, len(self.gpus)))
        share = str(max(1, threads.budget() // self.jobs))
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]} if len(self.gpus) > 1 else {}
        return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, share), **gpu, "PYTHONUNBUFFERED": "1"} | {
            threads.RUNS_AT_ONCE: str(at_once)
        }


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
