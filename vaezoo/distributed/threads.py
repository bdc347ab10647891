"""How many threads a process computes with: by the size of a step and the processors, never by the load of the moment.

The number of threads decides the last bits of sums, so that the same seed must get the same number on the same machine.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaezoo.config.automatic import AUTO

SMALL_STEP = 100e6
"""Floating-point operations of a training step below which a second thread gains less than waiting for it costs."""

NUMBER = "OMP_NUM_THREADS"
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables of OpenMP: how many threads it has, and how they wait."""

RUNS_AT_ONCE = "VAEZOO_RUNS_AT_ONCE"
"""Tells a process how many runs share its device; ``vaezoo.training.callbacks.timing`` records it."""

LOOKS, LOOK_SECONDS = 25, 0.01
"""How often the machine is looked at before it counts as busy: idle threads of NumPy's own spin for up to 0.1 s."""


def processors() -> int:
    """Processors that this process may use: its affinity, and at most as many as its container's CPU quota."""
    import joblib

    return max(1, int(joblib.cpu_count()))


def granted() -> int:
    """Threads that this process and those that it starts may have together: OMP_NUM_THREADS, or the processors."""
    said = os.environ.get(NUMBER, "")
    return int(said) if said.isdecimal() and int(said) > 0 else processors()


def choose(setting: Any, flops: float, processes: int = 1) -> int:
    """Threads for training steps of ``flops`` operations in each of the ``processes`` of a run on one machine.

    A number is taken as it is, up to the share of each process where there are several. ``auto`` gives small steps one
    thread and all others what torch would take, which respects OMP_NUM_THREADS, but no more than the processors.
    """
    import torch

    share = max(1, processors() // processes)
    if setting != AUTO:
        return int(setting) if processes == 1 else min(int(setting), share)
    return 1 if flops < SMALL_STEP else min(torch.get_num_threads(), share)


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Compute with ``count`` threads meanwhile, in this process and in those that it starts."""
    import torch

    before, said = torch.get_num_threads(), os.environ.get(NUMBER)
    torch.set_num_threads(count)
    os.environ[NUMBER] = str(count)  # Lightning would choose anew for the processes that it starts
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop(NUMBER)
        if said is not None:
            os.environ[NUMBER] = said


def sleep_when_idle_if_busy() -> None:
    """On a busy machine, have threads that wait for each other sleep; must come before torch is imported.

    GNU OpenMP's threads spin while they wait. If another program needs their processors, both lose whole time slices.
    On a quiet machine spinning is up to twice as fast, and is left as it is. Results are the same to the bit. What the
    user has set in the environment stays.
    """
    if _is_busy(processors(), _computing_elsewhere()) and not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = "PASSIVE"


def busy_line(count: int) -> str | None:
    """One sentence if other programs use the processors that ``count`` threads need; None if they do not."""
    others = _computing_elsewhere()
    if not _is_busy(count, others):
        return None
    remedy = "wait for the other programs, or set threads=1" if count > 1 else "wait for the other programs"
    return (
        f"the machine is busy: other programs use about {others:.1f} of {os.cpu_count()} processors, and training with"
        f" {count} thread{'' if count == 1 else 's'} will be slower than usual; to help, {remedy}"
    )


def _is_busy(count: int, others: float) -> bool:
    """Whether more than a quarter of the processors that ``count`` threads need are in use by others."""
    return count - ((os.cpu_count() or 1) - others) > max(0.5, count / 4)


def _computing_elsewhere() -> float:
    """How many threads of other programs compute at present, or where that is not known in the last minute."""
    present = Path("/proc/loadavg")  # its fourth field is RUNNING/ALL, this thread among them
    if not present.is_file():
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    others = math.inf
    for _ in range(LOOKS):
        others = min(others, float(present.read_text().split()[3].partition("/")[0]) - 1)
        if others <= 0:
            break
        time.sleep(LOOK_SECONDS)
    return others
