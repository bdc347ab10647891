"""Worker processes of torch's DataLoader that ignore stop signals to the run, and exit with it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from vaezoo.distributed import threads

Item = TypeVar("Item")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that ask a run to stop; it still needs the batch that its workers are decoding."""

FEW_FILES = 500
"""Decoding fewer files takes less time than starting worker processes."""

MAX_WORKERS = 16

PATIENCE = 1.0
"""Seconds that workers have to finish a batch when their loader is shut down."""

POLL_SECONDS = 0.25
"""Interval at which a worker checks whether its run still exists."""


def how_many(count: int, *, sharing: int = 1) -> int:
    """Worker processes to decode ``count`` files: none for few, else one per processor.

    ``sharing`` is the number of processes of a run on this machine.
    """
    return 0 if count < FEW_FILES else most_workers(sharing)


def most_workers(sharing: int = 1) -> int:
    """One worker per processor, divided by the run's processes on this machine; at most ``MAX_WORKERS``."""
    return max(1, min(MAX_WORKERS, threads.processors() // sharing))


def one_pass(loader: "DataLoader[Item]") -> Iterator[Item]:
    """One pass over a loader made with ``worker_init_fn=leave_signals_to_the_run``."""
    iterator = _start(loader)
    try:
        yield from iterator
    finally:
        if not loader.persistent_workers:
            _shut_down(iterator)


def shut_down(loader: "DataLoader[Any]") -> None:
    """Shut down persistent workers, if any; the next pass starts new ones."""
    iterator, loader._iterator = loader._iterator, None
    if iterator is not None:
        _shut_down(iterator)


def leave_signals_to_the_run(worker: int) -> None:
    """Ignore stop signals in this worker, except SIGTERM from the run itself, and exit when the run does.

    SIGTERM is blocked and waited for in a thread, the only way to learn its sender. macOS has no ``sigtimedwait``;
    there the worker leaves the process group, and any SIGTERM ends it.
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
    os._exit(0)  # torch treats any other code as a crash


def _start(loader: "DataLoader[Item]") -> Any:
    """Start a pass. Workers start with signals blocked, so that none arrives before they ignore them."""
    if loader._iterator is not None:
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shut_down(iterator: Any) -> None:
    """Shut workers down in torch's order; terminate them if a batch takes longer than ``PATIENCE``."""
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
