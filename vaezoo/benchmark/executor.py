"""Tasks of a benchmark, and the interface and main loop that all launchers share."""

import fcntl
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from vaezoo.distributed.interrupts import GRACE_SECONDS

LEFT_OVER_SECONDS = 0.2
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


class JobResult(NamedTuple):
    """Exit code and run time of a job, and why it failed to start or was lost, if it did."""

    code: int
    seconds: float
    reason: str = ""


@dataclass
class Executor(ABC):
    """Runs tasks as jobs: processes of this machine, or jobs of a cluster.

    ``inherit`` are file descriptors that processes on this machine keep open.
    """

    poll_seconds: ClassVar[float]

    inherit: Sequence[int] = field(default=(), kw_only=True)
    _planned: int = field(default=0, kw_only=True)
    _signals: list[int] = field(default_factory=list, kw_only=True)

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """Maximum number of submitted jobs at a time; None: no limit."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> Iterable[Any]:
        """Start tasks or submit them to a cluster; returns a job for each, in the same order."""

    @abstractmethod
    def result(self, job: Any) -> JobResult | None:
        """The result of a job, or None while it is pending or running."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Stop jobs: gracefully, as a signal stops a run, or ``at_once``."""

    def check(self) -> None:  # noqa: B027  optional, like the next two
        """Raise ConfigError if packages or programs are missing, or the launcher does not have a setting."""

    def share_gpus(self, gpus: Sequence[str]) -> None:  # noqa: B027
        """Assign the GPUs of this machine to jobs in turn, for launchers that run on this machine."""

    def left_over(self) -> int:
        """Number of pending and running jobs of an earlier command for the same folder."""
        return 0

    def cancel_left_over(self) -> None:  # noqa: B027
        """Cancel the jobs of an earlier command."""

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """Run all tasks. ``ended`` is called with the exit code and seconds of each, ``watch`` with those submitted.

        The seconds do not include the time in a queue. Raises StoppedError after SIGINT, SIGTERM or SIGHUP, once all
        jobs have ended; a second signal kills them.
        """
        waiting, running = list(tasks), dict[str, tuple[Task, Any]]()
        self._planned = len(waiting)
        with listening(self._signals):
            try:
                while (waiting or running) and not self._signals:
                    room = len(waiting) if self.limit is None else self.limit - len(running)
                    batch, waiting = waiting[:room], waiting[room:]
                    if batch:
                        for task, job in zip(batch, self.submit(batch), strict=True):
                            running[task.name] = (task, job)
                    time.sleep(self.poll_seconds)
                    for name, (task, job) in list(running.items()):
                        if (result := self.result(job)) is not None:
                            del running[name]
                            _note(task, result)
                            ended(task, result.code, result.seconds)
                    watch([task for task, _ in running.values()])
            finally:
                self._stop([job for _, job in running.values()])
            if self._signals:
                raise StoppedError(self._signals[0])

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait for jobs and processes of an earlier command, whatever launched it, so that no run is started twice.

        A signal cancels its jobs and raises StoppedError.
        """
        reported = 0
        with listening(self._signals):
            while left := self.left_over() or sum(map(is_at_work, logs)):
                if self._signals:
                    self.cancel_left_over()
                    raise StoppedError(self._signals[0])
                if left != reported:
                    say(f"waiting for {left} job{'s'[: left > 1]} of an earlier command; Ctrl-C stops")
                reported = left
                time.sleep(LEFT_OVER_SECONDS)

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
            time.sleep(self.poll_seconds)


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


def _note(task: Task, result: JobResult) -> None:
    """Write the reason of a failure to the task's log."""
    if result.reason:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            print("$", subprocess.list2cmdline(task.command), file=log)
            print(f"error: {result.reason}", file=log)
