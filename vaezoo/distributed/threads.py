"""The number of threads a process computes with, chosen by the size of a step and the number of CPUs.

The number of threads affects the rounding of sums, so it never depends on the current load: the same seed must get the
same number on the same machine.
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaezoo.config.automatic import AUTO

SMALL_STEP = 100e6
"""Floating-point operations of a training step below which a second thread costs more than it gains."""

NUMBER = "OMP_NUM_THREADS"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Environment variables of OpenMP: the number of threads, and how they wait."""

RUNS_AT_ONCE = "VAEZOO_RUNS_AT_ONCE"
"""Environment variable with the number of runs on a device at the same time; recorded by ``callbacks.timing``."""

PROBES, PROBE_SECONDS = 25, 0.01
"""Number and interval of load measurements before the machine counts as busy: NumPy's idle threads spin up to 0.1 s."""


def processors() -> int:
    """The number of CPUs this process may use, limited by its affinity and its container's quota."""
    import joblib

    return max(1, int(joblib.cpu_count()))


def budget() -> int:
    """Threads that this process and its children may use together: OMP_NUM_THREADS if set, else all CPUs."""
    setting = os.environ.get(NUMBER, "")
    return int(setting) if setting.isdecimal() and int(setting) > 0 else processors()


def choose(setting: Any, flops: float, processes: int = 1) -> int:
    """Threads per process for training steps of ``flops`` operations, with ``processes`` of a run on this machine.

    A number is used as it is, but no more than each process's share of the CPUs if there are several. ``auto`` is one
    thread for small steps, otherwise torch's own choice (which respects OMP_NUM_THREADS), up to that share.
    """
    import torch

    share = max(1, processors() // processes)
    if setting != AUTO:
        return int(setting) if processes == 1 else min(int(setting), share)
    return 1 if flops < SMALL_STEP else min(torch.get_num_threads(), share)


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Within the block, compute with ``count`` threads in this process and in its children."""
    import torch

    before, setting = torch.get_num_threads(), os.environ.get(NUMBER)
    torch.set_num_threads(count)
    os.environ[NUMBER] = str(count)  # otherwise Lightning sets it for the processes that it starts
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop(NUMBER)
        if setting is not None:
            os.environ[NUMBER] = setting


def sleep_when_idle_if_busy() -> None:
    """On a busy machine, make OpenMP's waiting threads sleep instead of spin; once torch is imported, it is too late.

    Spinning threads and other programs take whole time slices from each other; on an idle machine, spinning is up to
    twice as fast. Results are bit-identical. Variables that the user has set are kept.
    """
    if "torch" in sys.modules or any(name in os.environ for name in WAITING):
        return
    if _is_busy(processors(), _computing_elsewhere()):
        os.environ[WAITING[0]] = "PASSIVE"


def busy_line(count: int) -> str | None:
    """A warning if other programs use the CPUs that ``count`` threads need; None if they do not."""
    others = _computing_elsewhere()
    if not _is_busy(count, others):
        return None
    remedy = "wait for the other programs, or set threads=1" if count > 1 else "wait for the other programs"
    return (
        f"the machine is busy: other programs use about {others:.1f} of {os.cpu_count()} processors, and training with"
        f" {count} thread{'' if count == 1 else 's'} will be slower than usual; to help, {remedy}"
    )


def _is_busy(count: int, others: float) -> bool:
    """Whether other programs use more than a quarter of the CPUs that ``count`` threads need."""
    return count - ((os.cpu_count() or 1) - others) > max(0.5, count / 4)


def _computing_elsewhere() -> float:
    """Number of running threads of other programs; the one-minute load average where that is not available."""
    present = Path("/proc/loadavg")  # its fourth field is RUNNING/ALL, this thread among them
    if not present.is_file():
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    others = math.inf
    for _ in range(PROBES):
        others = min(others, float(present.read_text().split()[3].partition("/")[0]) - 1)
        if others <= 0:
            break
        time.sleep(PROBE_SECONDS)
    return others
