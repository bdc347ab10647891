"""Tasks as jobs of a cluster, run on other machines that see the same folder. It knows no runs."""

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


class Outcome(NamedTuple):
    """What came of a task: exit code, seconds that it ran, and why it could not be started or was lost, if it was."""

    code: int
    seconds: float
    reason: str = ""


@dataclass
class Cluster(ABC):
    """Runs tasks as jobs, as ``Pool`` runs them as processes; ``jobs`` at a time, None for as many as there is room.

    ``folder`` is the benchmark's, which all machines must see; ``settings`` are those of the command line that begin
    with ``launcher.``, without it.
    """

    folder: Path
    jobs: int | None
    settings: dict[str, Any]
    inherit: Sequence[int] = ()
    _asked: list[int] = field(default_factory=list)

    @abstractmethod
    def check(self) -> None:
        """ConfigError if packages or programs are missing, or a setting is none of the launcher's."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """Hand tasks over to the cluster; returns a job for each by its name."""

    @abstractmethod
    def outcome(self, job: Any) -> Outcome | None:
        """What came of a job, None as long as it waits or runs."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Have jobs end as SIGTERM ends a run, or at once."""

    @abstractmethod
    def left_over(self) -> int:
        """How many jobs of an earlier command for the same folder still wait or run."""

    @abstractmethod
    def cancel_left_over(self) -> None:
        """Have these end."""

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """As ``Pool.run``: ``ended`` gets the seconds that a task ran, not those that it waited for a place."""
        if not tasks:
            return
        with listening(self._asked):
            jobs = self.submit(tasks)
            running = {task.name: task for task in tasks}
            try:
                while running and not self._asked:
                    time.sleep(POLL_SECONDS)
                    for name, task in list(running.items()):
                        if (outcome := self.outcome(jobs[name])) is not None:
                            del running[name]
                            _note(task, outcome)
                            ended(task, outcome.code, outcome.seconds)
                    watch(list(running.values()))
            finally:
                self._stop([jobs[name] for name in running])
            if self._asked:
                raise StoppedError(self._asked[0])

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait until nothing of an earlier command is at work, so that no run is started twice.

        StoppedError after a signal, which cancels those jobs.
        """
        wait_until_none(lambda: self.left_over() or sum(map(is_at_work, logs)), self._asked, say, self.cancel_left_over)

    def _stop(self, jobs: Sequence[Any]) -> None:
        """Cancel jobs, and at a second signal or after a while do not wait for what they still have to write."""
        if not jobs:
            return
        self.cancel(jobs, at_once=False)
        until, asked = time.monotonic() + GRACE_SECONDS, len(self._asked)
        while any(self.outcome(job) is None for job in jobs):
            if time.monotonic() > until or len(self._asked) > asked:
                self.cancel(jobs, at_once=True)
                return
            time.sleep(POLL_SECONDS)


def work(command: tuple[str, ...], log: str, seen: str) -> tuple[int, float, str]:
    """On a machine of the cluster: run a command with its output added to ``log``; returns an ``Outcome``.

    ``seen`` is a file that is there if this machine sees the benchmark's folder. A signal that ends this function has
    the command end too, and save what it has.
    """
    if not Path(seen).is_file():
        where = f"{socket.gethostname()} cannot access {Path(seen).parent}"
        return 1, 0.0, f"{where}: all machines of the cluster must share the folder out="
    if is_at_work(Path(log)):
        return 1, 0.0, f"another command is running in {Path(log).parent}"
    since = time.monotonic()
    process = start(Task("", command, Path(log)), environment())
    try:
        while process.poll() is None:  # Ray's interrupt does not wake a wait without an end
            time.sleep(POLL_SECONDS / 4)
    except BaseException:
        _end(process)
        raise
    return process.returncode, time.monotonic() - since, ""


def environment() -> dict[str, str]:
    """The environment of a command on a machine of the cluster: its own, with as many threads as it was given.

    Without SLURM's words for the job: its one task starts by itself what processes it needs.
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


def _note(task: Task, outcome: Outcome) -> None:
    """Add to a task's log what it could not write itself."""
    if outcome.reason:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            print("$", subprocess.list2cmdline(task.command), file=log)
            print(f"error: {outcome.reason}", file=log)
