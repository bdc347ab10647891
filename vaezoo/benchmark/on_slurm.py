"""A benchmark's tasks as an array of SLURM jobs, through submitit."""

import hashlib
import os
import pickle
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from vaezoo.benchmark.clusters import Cluster, work
from vaezoo.benchmark.executor import Outcome, Task
from vaezoo.benchmark.folder import JOBS, PLAN
from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.validation import did_you_mean

DEFAULTS = {"timeout_min": 240, "cpus_per_task": 1, "signal_delay_s": 90}
OWN = ("name", "job_name", "array_parallelism", "nodes", "tasks_per_node", "ntasks_per_node")
"""Settings of submitit that are the benchmark's: jobs= is how many run at a time, and each is one task."""
SQUEUE_SECONDS = 2.0
SQUEUE_LIMIT_SECONDS = 20.0
SQUEUE_TRIES = 4
PATIENCE_SECONDS = 20.0
"""So long a result may take to be seen here, on a shared file system, after its job has left the queue."""


@dataclass
class Slurm(Cluster):
    """Jobs have a name that says whose folder they work for, by which a later command finds them."""

    _queued: set[str] | None = None
    _asked_at: float = -1e9
    _missing: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """ConfigError without submitit, without sbatch, or for a setting that submitit does not have."""
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(missing("launcher=submitit_slurm", LAUNCHERS["submitit_slurm"])) from error
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "launcher=submitit_slurm needs SLURM's commands, and there is no sbatch; start it on a machine of the"
                " cluster"
            )
        shared, own = submitit.AutoExecutor._valid_parameters(), submitit.SlurmExecutor._valid_parameters()
        known = sorted((shared | own) - set(OWN))
        for name in self.settings:
            if name in OWN:
                raise ConfigError(f"launcher.{name} is set by the benchmark, because each run is one job; see jobs=")
            if name not in known:
                raise ConfigError(f"launcher.{name} is not a setting of submitit; {did_you_mean(name, known)}")

    @property
    def limit(self) -> None:
        """None: the array itself runs ``jobs`` at a time."""

    @property
    def name(self) -> str:
        """What the jobs of this folder are called in the queue."""
        return "vaezoo-" + hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """One array of all tasks; ConfigError with what SLURM says if it takes none.

        Its files are pickles, and lie in a new folder: what lies in the benchmark's may have come from elsewhere.
        """
        import submitit

        shared = submitit.AutoExecutor._valid_parameters()
        settings = {**DEFAULTS, **self.settings}
        named = {key if key in shared else f"slurm_{key}": value for key, value in settings.items()}
        seen = str((self.folder / PLAN).absolute())
        try:
            (self.folder / JOBS).mkdir(exist_ok=True)
            new = mkdtemp(prefix=time.strftime("%Y-%m-%d_%H-%M-%S_"), dir=self.folder / JOBS)
            executor = submitit.AutoExecutor(Path(new) / "%j", cluster="slurm")
            executor.update_parameters(name=self.name, slurm_array_parallelism=self.jobs or len(tasks), **named)
            with executor.batch():
                jobs = [executor.submit(work, task.command, str(task.log.absolute()), seen) for task in tasks]
        except (submitit.core.utils.FailedJobError, AssertionError, ValueError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ConfigError(f"SLURM rejected the jobs: {said[-1].strip()}; see the settings launcher.") from error
        self._queued = {job.job_id for job in jobs}
        self._asked_at = -1e9
        return jobs

    def outcome(self, job: Any) -> Outcome | None:
        """What the job left behind; a job that is not in the queue and left nothing is lost."""
        if job.paths.result_pickle.exists():
            return _read(job)
        if job.job_id in (self._queue() or ()):
            self._missing.pop(job.job_id, None)
            return None
        since = self._missing.setdefault(job.job_id, time.monotonic())
        if not self._asked and time.monotonic() - since < PATIENCE_SECONDS:
            return None
        return Outcome(1, 0.0, _lost(job))

    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Through scancel, which by itself has the processes end as SIGTERM does."""
        self._scancel(["--signal=KILL", "--full"] if at_once else [], [job.job_id for job in jobs])

    def left_over(self) -> int:
        """Jobs with this folder's name; ConfigError if SLURM does not say."""
        for _ in range(SQUEUE_TRIES):
            if (queued := self._queue(at_once=True)) is not None:
                return len(queued)
            time.sleep(SQUEUE_SECONDS)
        raise ConfigError(
            "squeue does not answer, so jobs of an earlier command may still be running; try again when it does"
        )

    def cancel_left_over(self) -> None:
        """All jobs with this folder's name."""
        self._scancel([], [f"--name={self.name}"])

    def _scancel(self, options: Sequence[str], whom: Sequence[str]) -> None:
        subprocess.run(["scancel", "--quiet", *options, *whom], capture_output=True)
        self._asked_at = -1e9

    def _queue(self, *, at_once: bool = False) -> set[str] | None:
        """Numbers of this folder's jobs in the queue, None if not yet known; SLURM is asked now and then only."""
        if at_once or time.monotonic() - self._asked_at > SQUEUE_SECONDS:
            command = ["squeue", "--noheader", "--array", f"--name={self.name}", "--format=%i"]
            try:
                said = subprocess.run(command, capture_output=True, text=True, timeout=SQUEUE_LIMIT_SECONDS, check=True)
                self._queued = set(said.stdout.split())
            except (OSError, subprocess.SubprocessError):
                pass  # SLURM is busy, and what was known stands
            self._asked_at = time.monotonic()
        return self._queued


def _read(job: Any) -> Outcome | None:
    """What ``work`` returned, or the error that ended it; None while the file is being written."""
    try:
        kind, result = pickle.loads(job.paths.result_pickle.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    if kind == "success":
        return Outcome(*result)
    told = [line for line in str(result).splitlines() if line.strip()]
    last = told[-1].strip() if told else "an unknown error"
    cut = "timed-out" in last or "requeued" in last
    return Outcome(1, 0.0, f"SLURM job {job.job_id} reached its time limit" if cut else f"job {job.job_id}: {last}")


def _lost(job: Any) -> str:
    if not job.paths.stdout.exists():
        return (
            f"SLURM job {job.job_id} wrote nothing to {job.paths.folder}: it was cancelled before it started, or the"
            " folder out= is not shared by all nodes"
        )
    return (
        f"SLURM job {job.job_id} ended without a result: its node failed, or it was cancelled or reached its time limit"
    )
