"""Launcher that runs a benchmark's tasks on Ray."""

import inspect
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaezoo.benchmark.clusters import Cluster, work
from vaezoo.benchmark.executor import JobResult, Task
from vaezoo.benchmark.folder import PLAN
from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.validation import did_you_mean

DEFAULTS = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
REMOTE = {"num_cpus": 1, "max_calls": 1, "max_retries": 0}
"""Default options of ``ray.remote``; launcher.remote. settings override them, such as launcher.remote.num_gpus=1."""


class Ray(Cluster):
    """Runs tasks on Ray, which stops them when this process exits, so that none are left over."""

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

    def submit(self, tasks: Sequence[Task]) -> list["_Job"]:
        """Submit each task to Ray."""
        import ray

        if not ray.is_initialized():
            init = {name: value for name, value in self.settings.items() if name.partition(".")[0] != "remote"}
            try:
                ray.init(**{**DEFAULTS, **init})
            except (ConnectionError, ValueError, RuntimeError, TypeError) as error:
                raise ConfigError(f"Ray does not start: {' '.join(str(error).split())}") from error
        remote, seen = ray.remote(**self.options())(work), str((self.folder / PLAN).absolute())
        return [_Job(remote.remote(task.command, str(task.log.absolute()), seen), time.monotonic()) for task in tasks]

    def options(self) -> dict[str, Any]:
        """Options of ``ray.remote``."""
        own = {key.partition(".")[2]: value for key, value in self.settings.items() if key.startswith("remote.")}
        return {**REMOTE, **self.settings.get("remote", {}), **own}

    def result(self, job: "_Job") -> JobResult | None:
        import ray

        if not ray.wait([job.reference], timeout=0)[0]:
            return None
        try:
            return JobResult(*ray.get(job.reference))
        except (ray.exceptions.RayError, KeyboardInterrupt) as error:
            last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
            return JobResult(1, time.monotonic() - job.since, f"Ray lost the task: {last or type(error).__name__}")

    def cancel(self, jobs: Sequence["_Job"], *, at_once: bool) -> None:
        """Cancel by ``ray.cancel``; a command exits with the Ray worker that started it."""
        import ray

        for job in jobs:
            ray.cancel(job.reference, force=at_once)


class _Job(NamedTuple):
    reference: Any
    since: float
