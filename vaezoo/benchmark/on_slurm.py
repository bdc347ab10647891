"""Launcher that runs a benchmark's tasks as an array of SLURM jobs, through submitit."""

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
from vaezoo.benchmark.executor import JobResult, Task
from vaezoo.benchmark.folder import JOBS, PLAN
from vaezoo.config.errors import ConfigError
from vaezoo.config.extras import LAUNCHERS, missing
from vaezoo.config.validation import did_you_mean

DEFAULTS = {"timeout_min": 240, "cpus_per_task": 1, "signal_delay_s": 90}
OWN = ("name", "job_name", "array_parallelism", "nodes", "tasks_per_node", "ntasks_per_node")
"""Settings of submitit that the benchmark sets: jobs= limits how many jobs run at a time, and each job is one task."""
SQUEUE_SECONDS = 2.0
SQUEUE_LIMIT_SECONDS = 20.0
SQUEUE_TRIES = 4
PATIENCE_SECONDS = 20.0
"""How long a result may take to appear on the shared file system after its job has left the queue."""


@dataclass
class Slurm(Cluster):
    """Runs tasks as SLURM jobs. Their name identifies the folder, so that a later command finds them."""

    _queued: set[str] | None = None
    _queried_at: float = -1e9
    _missing: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigError if submitit or sbatch is missing, or for a setting that submitit does not have."""
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
        """Name of this folder's jobs in the queue."""
        return "vaezoo-" + hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Submit all tasks as one array; ConfigError with SLURM's message if it rejects them.

        submitit's files are pickles. They are in a new folder, because existing files may be untrusted.
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
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise ConfigError(f"SLURM rejected the jobs: {lines[-1].strip()}; see the settings launcher.") from error
        self._queued = {job.job_id for job in jobs}
        self._queried_at = -1e9
        return jobs

    def result(self, job: Any) -> JobResult | None:
        """The result of a job, or None. A job that has left the queue without a result is lost."""
        if job.paths.result_pickle.exists():
            return _read(job)
        if job.job_id in (self._queue() or ()):
            self._missing.pop(job.job_id, None)
            return None
        since = self._missing.setdefault(job.job_id, time.monotonic())
        if not self._signals and time.monotonic() - since < PATIENCE_SECONDS:
            return None
        return JobResult(1, 0.0, _lost(job))

    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        """Cancel by ``scancel``, which sends SIGTERM by default."""
        self._scancel(["--signal=KILL", "--full"] if at_once else [], [job.job_id for job in jobs])

    def left_over(self) -> int:
        """Number of queued jobs with this folder's name; ConfigError if squeue does not answer."""
        for _ in range(SQUEUE_TRIES):
            if (queued := self._queue(at_once=True)) is not None:
                return len(queued)
            time.sleep(SQUEUE_SECONDS)
        raise ConfigError(
            "squeue does not answer, so jobs of an earlier command may still be running; try again when it does"
        )

    def cancel_left_over(self) -> None:
        """Cancel all jobs with this folder's name."""
        self._scancel([], [f"--name={self.name}"])

    def _scancel(self, options: Sequence[str], whom: Sequence[str]) -> None:
        subprocess.run(["scancel", "--quiet", *options, *whom], capture_output=True)
        self._queried_at = -1e9

    def _queue(self, *, at_once: bool = False) -> set[str] | None:
        """Ids of this folder's queued jobs, None if unknown; cached for ``SQUEUE_SECONDS`` unless ``at_once``."""
        if at_once or time.monotonic() - self._queried_at > SQUEUE_SECONDS:
            command = ["squeue", "--noheader", "--array", f"--name={self.name}", "--format=%i"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=SQUEUE_LIMIT_SECONDS, check=True)
                self._queued = set(done.stdout.split())
            except (OSError, subprocess.SubprocessError):
                pass  # SLURM is busy: keep the last answer
            self._queried_at = time.monotonic()
        return self._queued


def _read(job: Any) -> JobResult | None:
    """The result of ``work``, or the error that it raised; None while the file is being written."""
    try:
        kind, result = pickle.loads(job.paths.result_pickle.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    if kind == "success":
        return JobResult(*result)
    lines = [line for line in str(result).splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "an unknown error"
    cut = "timed-out" in last or "requeued" in last
    return JobResult(1, 0.0, f"SLURM job {job.job_id} reached its time limit" if cut else f"job {job.job_id}: {last}")


def _lost(job: Any) -> str:
    if not job.paths.stdout.exists():
        return (
            f"SLURM job {job.job_id} wrote nothing to {job.paths.folder}: it was cancelled before it started, or the"
            " folder out= is not shared by all nodes"
        )
    return (
        f"SLURM job {job.job_id} ended without a result: its node failed, or it was cancelled or reached its time limit"
    )
