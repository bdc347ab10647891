"""A benchmark's tasks as tasks of Ray."""

import inspect
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaezoo.benchmark.clusters import Cluster, work
from vaezoo.benchmark.executor import Outcome, Task
from vaezoo.benchmark.folder import PLAN
from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.validation import did_you_mean

DEFAULTS = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
REMOTE = {"num_cpus": 1, "max_calls": 1, "max_retries": 0}
"""What each run is given; launcher.remote= adds to it, as in launcher.remote.num_gpus=1."""


class Ray(Cluster):
    """Ray places the tasks; what a killed command had started ends with it, so nothing is ever left over."""

    def check(self) -> None:
        """ConfigError without Ray, or for a setting that ``ray.init`` does not have."""
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
        """One task of Ray's for each."""
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
        """What Ray is told of a task."""
        own = {key.partition(".")[2]: value for key, value in self.settings.items() if key.startswith("remote.")}
        return {**REMOTE, **self.settings.get("remote", {}), **own}

    def outcome(self, job: "_Job") -> Outcome | None:
        import ray

        if not ray.wait([job.reference], timeout=0)[0]:
            return None
        try:
            return Outcome(*ray.get(job.reference))
        except (ray.exceptions.RayError, KeyboardInterrupt) as error:
            said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "")
            return Outcome(1, time.monotonic() - job.since, f"Ray lost the task: {said or type(error).__name__}")

    def cancel(self, jobs: Sequence["_Job"], *, at_once: bool) -> None:
        """Through ray.cancel; a command whose process at Ray's is killed ends with it."""
        import ray

        for job in jobs:
            ray.cancel(job.reference, force=at_once)


class _Job(NamedTuple):
    reference: Any
    since: float
