"""Tasks, and what every launcher of a benchmark does with them. It knows no runs."""

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


class Outcome(NamedTuple):
    """What came of a task: exit code, seconds that it ran, and why it could not be started or was lost, if it was."""

    code: int
    seconds: float
    reason: str = ""


@dataclass
class Executor(ABC):
    """Runs tasks as jobs of its own kind.

    ``inherit`` are descriptors that processes on this machine keep open.
    """

    poll_seconds: ClassVar[float]

    inherit: Sequence[int] = field(default=(), kw_only=True)
    _planned: int = field(default=0, kw_only=True)
    _asked: list[int] = field(default_factory=list, kw_only=True)

    @property
    @abstractmethod
    def limit(self) -> int | None:
        """How many jobs may be submitted at a time; None for all."""

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> Iterable[Any]:
        """Start tasks, or hand them over to a cluster; gives a job for each, in their order."""

    @abstractmethod
    def outcome(self, job: Any) -> Outcome | None:
        """What came of a job, None as long as it waits or runs."""

    @abstractmethod
    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Ask jobs to end as a signal ends a run, or end them at once."""

    def check(self) -> None:  # noqa: B027  this one and the next are for those that need them
        """ConfigError if packages or programs are missing, or a setting is none of the launcher's."""

    def share_gpus(self, gpus: Sequence[str]) -> None:  # noqa: B027
        """Share this machine's GPUs out among the jobs, if they are processes of this machine."""

    def left_over(self) -> int:
        """How many jobs of an earlier command for the same folder still wait or run."""
        return 0

    def cancel_left_over(self) -> None:  # noqa: B027
        """Have these end."""

    def run(
        self,
        tasks: Sequence[Task],
        ended: Callable[[Task, int, float], None],
        watch: Callable[[Sequence[Task]], None] = lambda running: None,
    ) -> None:
        """Run all; ``ended`` gets each with its exit code and seconds, ``watch`` now and then those submitted.

        The seconds are those that a task ran, not those that it waited for a place. Raises StoppedError after SIGINT,
        SIGTERM or SIGHUP, when all that had been started have ended. A second signal ends them at once.
        """
        waiting, running = list(tasks), dict[str, tuple[Task, Any]]()
        self._planned = len(waiting)
        with listening(self._asked):
            try:
                while (waiting or running) and not self._asked:
                    room = len(waiting) if self.limit is None else self.limit - len(running)
                    batch, waiting = waiting[:room], waiting[room:]
                    if batch:
                        for task, job in zip(batch, self.submit(batch), strict=True):
                            running[task.name] = (task, job)
                    time.sleep(self.poll_seconds)
                    for name, (task, job) in list(running.items()):
                        if (outcome := self.outcome(job)) is not None:
                            del running[name]
                            _note(task, outcome)
                            ended(task, outcome.code, outcome.seconds)
                    watch([task for task, _ in running.values()])
            finally:
                self._stop([job for _, job in running.values()])
            if self._asked:
                raise StoppedError(self._asked[0])

    def wait_for_left_over(self, logs: Sequence[Path], say: Callable[[str], None]) -> None:
        """Wait until nothing of an earlier command is at work, whatever launched it, so that no run is started twice.

        StoppedError after a signal, which cancels its jobs.
        """
        told = 0
        with listening(self._asked):
            while left := self.left_over() or sum(map(is_at_work, logs)):
                if self._asked:
                    self.cancel_left_over()
                    raise StoppedError(self._asked[0])
                if left != told:
                    say(f"waiting for {left} job{'s'[: left > 1]} of an earlier command; Ctrl-C stops")
                told = left
                time.sleep(LEFT_OVER_SECONDS)

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
            time.sleep(self.poll_seconds)


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


def _note(task: Task, outcome: Outcome) -> None:
    """Add to a task's log what it could not write itself."""
    if outcome.reason:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a") as log:
            print("$", subprocess.list2cmdline(task.command), file=log)
            print(f"error: {outcome.reason}", file=log)
