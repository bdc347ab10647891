"""How a program ends from its first moment on: at Ctrl-C, and when the process that started it is gone.

It imports nothing that takes time, since it comes before everything that does.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STARTED_BY = "VAEZOO_STARTED_BY"
"""Names, in the environment, the process that starts this one and that it must not outlive."""

GRACE_SECONDS = 60.0
"""For a process that is asked to stop, to finish a batch and write down how far it came."""

CLEANING_SECONDS = 10.0
"""For a command that was interrupted, to remove its temporary files."""

_starter = os.getppid()


def run(program: Callable[[], object]) -> None:
    """Run a whole program, which Ctrl-C ends at once with code 130, and which does not outlive its starter.

    Nothing is raised by Ctrl-C that a library could catch; what is on disk is safe from a program that is killed.
    Parts of the program may answer in another way: see ``cleaning_up``, and ``Stopping`` for a training.
    """
    signal.signal(signal.SIGINT, _end)
    _end_with_starter()
    try:
        program()
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt meanwhile, in a program of ``run``; other programs' handlers stay.

    A second one ends the program at once, as ``CLEANING_SECONDS`` do if something has caught the exception.
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
    """The process that started this one, even if it had gone before this one could ask."""
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
    if named and (named == os.getppid() or not _is_alive(named)):  # else it has started one that started this one
        _starter = named
        threading.Thread(target=_watch_starter, name="watch starter", daemon=True).start()


def _watch_starter() -> None:
    """Ask this process to stop when its starter has gone, and end it where that takes too long."""
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
