"""Base class of launchers that run tasks as jobs on a cluster with a shared file system."""

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaezoo.benchmark.executor import Executor, Task, is_at_work
from vaezoo.benchmark.local_pool import THREAD_VARIABLES, start
from vaezoo.distributed.interrupts import GRACE_SECONDS

COMMAND_POLL_SECONDS = 0.25


@dataclass
class Cluster(Executor):
    """Runs tasks as cluster jobs, at most ``jobs`` at a time (None: no limit).

    ``folder`` is the benchmark's and must be shared by all machines; ``settings`` are the ``launcher.`` settings.
    """

    poll_seconds = 1.0

    folder: Path
    jobs: int | None
    settings: dict[str, Any]

    @property
    def limit(self) -> int | None:
        return self.jobs


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
            time.sleep(COMMAND_POLL_SECONDS)
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
