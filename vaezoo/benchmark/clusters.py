"""Base class of launchers that run tasks as jobs on a cluster with a shared file system."""

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vaezoo.benchmark.local_pool import (
    THREAD_VARIABLES,
    StoppedError,
    Task,
    is_at_work,
    listening,
    start,
    wait_until_none,
)
from vaezoo.distributed.interrupts import GRACE_SECONDS

POLL_SECONDS = 1.0


class JobResult(NamedTuple):
    """Exit code and run time of a job, and why it failed to start or was lost, if it did."""

    code: int
    seconds: float
    reason: str = ""


@dataclass
class Cluster(ABC):
    """Runs tasks as cluster jobs, at most ``jobs`` at a time (None: no limit), with the interface of ``Pool``.

    ``folder`` is the benchmark's and must be shared by all machines; ``settings`` are the ``launcher.`` settings.
    """

    folder: Path
    jobs: int | None
    settings: dict[str, Any]
    inherit: Sequence[int] = ()
    _signals: list[int] = field(default_factory=list)

    @abstractmethod
    def check(self) -> None:
        """Raise ConfigError if packages or programs are missing, or the launcher does not have a setting."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """Submit tasks; returns jobs by task name."""

    @abstractmethod
    def result(self, job: Any) -> JobResult | None:
        """The result of a job, or None while it is pending or running."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Stop jobs: gracefully, as by SIGTERM, or ``at_once`` by SIGKILL."""

    @abstractmethod
    def left_over(self) -> int:
        """Number of pending and running jobs of an earlier command for the same folder."""

    @abstractmethod
    def cancel_left_over(self) -> None:
        """Cancel the jobs of an earlier command."""

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """As ``Pool.run``; the seconds passed to ``ended`` do not include the time in the queue."""
        if not tasks:
            return
        with listening(self._signals):
            jobs = self.submit(tasks)
            running = {task.name: task for task in tasks}
            try:
                while running and not self._signals:
                    time.sleep(POLL_SECONDS)
                    for name, task in list(running.items()):
                        if (result := self.result(jobs[name])) is not None:
                            del running[name]
                            _note(task, result)
                            ended(task, result.code, result.seconds)
                    watch(list(running.values()))
            finally:
                self._stop([jobs[name] for name in running])
            if self._signals:
                raise StoppedError(self._signals[0])

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait for jobs of an earlier command, so that no run is started twice.

        A signal cancels those jobs and raises StoppedError.
        """
        wait_until_none(
            lambda: self.left_over() or sum(map(is_at_work, logs)), self._signals, say, self.cancel_left_over
        )

    def _stop(self, jobs: Sequence[Any]) -> None:
        """Cancel jobs; kill them after ``GRACE_SECONDS`` or at a second signal."""
        if not jobs:
            return
        self.cancel(jobs, at_once=False)
        until, received = time.monotonic() + GRACE_SECONDS, len(self._signals)
        while any(self.result(job) is None for job in jobs):
            if time.monotonic() > until or len(self._signals) > received:
                self.cancel(jobs, at_once=True)
                return
            time.sleep(POLL_SECONDS)


def work(command: tuple[str, ...], log: str, seen: str) -> tuple[int, float, str]:
    """Run a command on a cluster machine and append its output to ``log``; returns the fields of a ``JobResult``.

    ``seen`` is a file in the benchmark's folder; if it is missing, the folder is not shared with this machine. If this
    function is interrupted, the command is asked to stop, so that it can save its state.
    """
    if not Path(seen).is_file():
        where = f"{socket.gethostname()} cannot access {Path(seen).parent}"
        return 1, 0.0, f"{where}: all machines of the cluster must share the folder out="
    if is_at_work(Path(log)):
        return 1, 0.0, f"another command is running in {Path(log).parent}"
    since = time.monotonic()
    process = start(Task("", command, Path(log)), environment())
    try:
        while process.poll() is None:  # Ray's interrupt does not end a wait without a timeout
            time.sleep(POLL_SECONDS / 4)
    except BaseException:
        _end(process)
        raise
    return process.returncode, time.monotonic() - since, ""


def environment() -> dict[str, str]:
    """Environment of a command on a cluster machine, with thread counts set to the CPUs granted.

    SLURM's variables are removed, because a job is one task, which starts its own processes.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SUBMITIT_"))}
    restarts = os.environ.get("SLURM_RESTART_COUNT")
    again = {} if restarts is None else {"SLURM_RESTART_COUNT": restarts}
    threads = os.environ.get("SLURM_CPUS_ON_NODE") or os.environ.get("OMP_NUM_THREADS") or "1"
    return {**own, **again, **dict.fromkeys(THREAD_VARIABLES, threads), "PYTHONUNBUFFERED": "1"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _note(task: Task, result: JobResult) -> None:
    """Write the reason of a failure to the task's log."""
    if result.reason:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            print("$", subprocess.list2cmdline(task.command), file=log)
            print(f"error: {result.reason}", file=log)
