"""Launcher that runs a benchmark's tasks on Ray."""

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vaezoo.benchmark.clusters import Cluster, JobResult, work
from vaezoo.benchmark.folder import PLAN
from vaezoo.benchmark.local_pool import Task
from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.validation import did_you_mean

DEFAULTS = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
REMOTE = {"num_cpus": 1, "max_calls": 1, "max_retries": 0}
"""Default options of ``ray.remote``; launcher.remote. settings override them, such as launcher.remote.num_gpus=1."""


@dataclass
class Ray(Cluster):
    """Runs tasks on Ray, which stops them when this process exits."""

    _waiting: dict[int, tuple[Task, Any]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError if Ray is not installed, or for a setting that ``ray.init`` does not have."""
        try:
            import ray
        except ImportError as error:
            raise ConfigError(missing("launcher=ray", LAUNCHERS["ray"])) from error
        known = [name for name, each in inspect.signature(ray.init).parameters.items() if each.kind != each.VAR_KEYWORD]
        for name in self.settings:
            if name not in (*known, "remote") and not name.startswith("remote."):
                raise ConfigError(
                    f"launcher.{name} is not a setting of ray.init; {did_you_mean(name, [*known, 'remote'])}"
                )

    def submit(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """Create a job per task. A job starts in ``result``, when fewer than ``jobs`` are running."""
        import ray

        if not ray.is_initialized():
            init = {name: value for name, value in self.settings.items() if name.partition(".")[0] != "remote"}
            try:
                ray.init(**{**DEFAULTS, **init})
            except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
                raise ConfigError(f"Ray does not start: {' '.join(str(error).split())}") from error
        return {task.name: _Job(task, str((self.folder / PLAN).absolute()), self) for task in tasks}

    def options(self) -> dict[str, Any]:
        """Options of ``ray.remote``."""
        own = {key.partition(".")[2]: value for key, value in self.settings.items() if key.startswith("remote.")}
        return {**REMOTE, **self.settings.get("remote", {}), **own}

    def result(self, job: "_Job") -> JobResult | None:
        """The result of a job, or None. Starts the job if it has not started and fewer than ``jobs`` are running."""
        import ray

        if job.reference is None:
            if self.jobs is not None and len(self._waiting) >= self.jobs:
                return None
            remote = ray.remote(**self.options())(work)
            job.reference = remote.remote(job.task.command, str(job.task.log.absolute()), job.seen)
            job.since = time.monotonic()
            self._waiting[id(job)] = (job.task, job.reference)
        if not ray.wait([job.reference], timeout=0)[0]:
            return None
        self._waiting.pop(id(job), None)
        try:
            return JobResult(*ray.get(job.reference))
        except (ray.exceptions.RayError, KeyboardInterrupt) as error:
            last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
            return JobResult(1, time.monotonic() - job.since, f"Ray lost the task: {last or type(error).__name__}")

    def left_over(self) -> int:
        """0: Ray stops tasks when the process that submitted them exits."""
        return 0

    def cancel_left_over(self) -> None:
        """Nothing to cancel."""

    def cancel(self, jobs: Sequence["_Job"], *, at_once: bool) -> None:
        """Cancel by ``ray.cancel``; a command exits with the Ray worker that started it."""
        import ray

        for job in jobs:
            if job.reference is None:
                job.reference = ray.put((130, 0.0, ""))  # it never started
            else:
                ray.cancel(job.reference, force=at_once)


@dataclass
class _Job:
    task: Task
    seen: str
    of: Ray
    reference: Any = None
    since: float = 0.0
