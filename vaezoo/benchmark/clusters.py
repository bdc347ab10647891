"""Tasks as jobs of a cluster, run on other machines that see the same folder. It knows no runs."""

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

LOOK_SECONDS = 0.25


@dataclass
class Cluster(Executor):
    """Runs tasks as jobs on other machines; ``jobs`` at a time, None for as many as there is room.

    ``folder`` is the benchmark's, which all machines must see; ``settings`` are those of the command line that begin
    with ``launcher.``, without it.
    """

    poll_seconds = 1.0

    folder: Path
    jobs: int | None
    settings: dict[str, Any]

    @property
    def limit(self) -> int | None:
        return self.jobs


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
            time.sleep(LOOK_SECONDS)
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
