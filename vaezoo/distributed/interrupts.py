"""How a program ends: on Ctrl-C, and when the process that started it has ended.

It imports nothing slow, because it runs before all other imports.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STARTED_BY = "VAEZOO_STARTED_BY"
"""Environment variable with the id of the parent process, which this process must not outlive."""

GRACE_SECONDS = 60.0
"""Time for a process to finish a batch and save a checkpoint after SIGTERM."""

CLEANING_SECONDS = 10.0
"""Time for an interrupted command to remove its temporary files."""

_starter = os.getppid()


def run(program: Callable[[], object]) -> None:
    """Run a program that Ctrl-C ends immediately with code 130 and that does not outlive its parent process.

    Ctrl-C raises no exception that a library could catch; files on disk survive a kill. Parts of the program may
    handle it differently: see ``cleaning_up``, and ``Stopping`` for training.
    """
    signal.signal(signal.SIGINT, _end)
    _end_with_starter()
    try:
        program()
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Within the block, Ctrl-C raises KeyboardInterrupt in a program started by ``run``; other handlers are kept.

    A second Ctrl-C ends the program immediately, as does a timeout of ``CLEANING_SECONDS``.
    """
    if signal.getsignal(signal.SIGINT) is not _end:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end)


def starter() -> int:
    """The id of the process that started this one, even if it has already ended."""
    return _starter


def _end(*_: object) -> None:
    os._exit(130)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGINT, _end)
    late = threading.Timer(CLEANING_SECONDS, _end)
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def _end_with_starter() -> None:
    global _starter
    named = int(os.environ.pop(STARTED_BY, "0"))
    if named and (named == os.getppid() or not _is_alive(named)):  # otherwise it is a grandparent
        _starter = named
        threading.Thread(target=_watch_starter, name="watch starter", daemon=True).start()


def _watch_starter() -> None:
    """Send this process SIGTERM when its parent has ended; end it after ``GRACE_SECONDS``."""
    while os.getppid() == _starter:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(143)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
