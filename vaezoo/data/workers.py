"""Worker processes of torch's DataLoader: they leave signals to their run, and end with it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

Item = TypeVar("Item")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a run to stop, which still needs the batch that its workers are decoding."""

PATIENCE = 1.0
"""Seconds that workers have to finish a batch when their loader is closed."""

POLL_SECONDS = 0.25
"""How often a worker looks whether its run is still there."""


def passing(loader: "DataLoader[Item]") -> Iterator[Item]:
    """One pass over a loader made with ``worker_init_fn=leave_signals_to_the_run``."""
    iterator = _start(loader)
    try:
        yield from iterator
    finally:
        if not loader.persistent_workers:
            _end(iterator)


def end(loader: "DataLoader[Any]") -> None:
    """End persistent workers, if there are any; the next pass starts others."""
    iterator, loader._iterator = loader._iterator, None
    if iterator is not None:
        _end(iterator)


def leave_signals_to_the_run(worker: int) -> None:
    """Have this worker ignore signals that ask to stop, except a SIGTERM from the run itself, and end with the run.

    SIGTERM is blocked and waited for in a thread, since only there can its sender be told. macOS has no such wait;
    there a worker leaves the process group, and any SIGTERM ends it.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    knows_senders = hasattr(signal, "sigtimedwait")
    if not knows_senders:
        os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM} if knows_senders else ())
    threading.Thread(target=_end_with_run, args=(os.getppid(),), name="end with run", daemon=True).start()


def _end_with_run(starter: int) -> None:
    run = multiprocessing.parent_process()
    assert run is not None
    while os.getppid() == starter and run.is_alive():
        if not hasattr(signal, "sigtimedwait"):
            time.sleep(POLL_SECONDS)
        elif (got := signal.sigtimedwait({signal.SIGTERM}, POLL_SECONDS)) is not None and got.si_pid == run.pid:
            break
    os._exit(0)  # with 0: torch takes anything else for a crash


def _start(loader: "DataLoader[Item]") -> Any:
    """Begin a pass. A worker starts with signals blocked, so that none reaches it before it can ignore them."""
    if loader._iterator is not None:
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(iterator: Any) -> None:
    """End the workers in torch's order, and do not wait for a slow batch."""
    workers = getattr(iterator, "_workers", ())
    if not workers:
        return
    late = threading.Timer(PATIENCE, lambda: [worker.terminate() for worker in workers])
    late.daemon = True
    late.start()
    try:
        iterator._shutdown_workers()
    finally:
        late.cancel()
