"""Locks that let only one process at a time work in a folder."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from vaezoo.config.errors import RunError

log = logging.getLogger(__name__)

LOCK = "run.lock"
"""File with the process that works in a folder. It is never removed, and has no meaning unless it is locked."""

BUSY = (errno.EAGAIN, errno.EACCES)

_held: set[FileIO] = set()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if needed; RunError, naming the owner, if another process holds it.

    The operating system releases the lock when the process ends in any way, so that no lock is ever stale. A file
    system without locks causes a warning.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+b", buffering=0)  # nothing is left to write when it is closed
    except OSError as error:
        raise RunError(f"cannot write to run_dir={folder}: {error.strerror}; choose another") from error
    with file:
        _take(file, folder)
        _held.add(file)
        try:
            yield
        finally:
            _held.discard(file)
            _name_owner(file, "")


def refuse_if_held(folder: Path) -> None:
    """RunError, naming the owner, if a process holds the lock of a folder; writes nothing."""
    try:
        file = (folder / LOCK).open("r+b", buffering=0)
    except OSError:
        return
    with file:
        _take(file, folder, naming=False)


def _take(file: FileIO, folder: Path, *, naming: bool = True) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in BUSY:
            raise RunError(_in_use(file, folder)) from None
        log.warning("warning     %s cannot be locked (%s); make sure that no other run uses it", folder, error.strerror)
    if naming:
        _name_owner(file, f"process {os.getpid()} on host {socket.gethostname()} since {time.strftime('%F %T')}")


def _in_use(file: FileIO, folder: Path) -> str:
    file.seek(0)
    owner = (file.read() or b"").decode(errors="replace").strip() or "another process"
    return f"run_dir={folder} is in use by {owner}; wait for it to end, stop it, or choose another run_dir"


def _name_owner(file: FileIO, owner: str) -> None:
    """Write the owner to the lock file; on a full disk, leave it out."""
    try:
        file.truncate(0)
        file.write(owner.encode())
    except OSError:
        pass


def _let_go() -> None:
    """Release inherited locks in a forked process, such as a loader worker, which may outlive a killed parent."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in _held:
        os.dup2(nothing, file.fileno())
    _held.clear()
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go)
