"""Atomic writing of files, so that a crash, a power cut or a full disk leaves them intact; and CSV tables."""

import csv
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vaezoo.config.errors import DiskError

TEMPORARY_SUFFIX = ".new"
"""Suffix of a file while it is written; one that is left over was never completed."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
"""Errors of a full or failing disk, reported as DiskError."""


def temporary_path(path: Path) -> Path:
    """Where the next version of a file is written before it is renamed, in the same folder."""
    return path.with_name(path.name + TEMPORARY_SUFFIX)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces ``path`` at the end of the block, once it is on disk.

    If the block fails, ``path`` is unchanged. DiskError if the disk is full or fails.
    """
    new = temporary_path(path)
    try:
        yield new
        commit(new, path)
    except BaseException as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
            raise DiskError(cannot_write(path, error)) from error
        raise


def commit(new: Path, path: Path) -> None:
    """Synchronise a written file to disk, then rename it to ``path``."""
    synchronise(new)
    new.replace(path)
    with suppress(OSError):  # some file systems cannot synchronise folders
        synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until the content of a file or folder is on disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; DiskError if the disk is full or fails."""
    with replacing(path) as new:
        new.write_text(text)


def cannot_write(path: Path | str, error: OSError) -> str:
    """The message of a DiskError."""
    return f"cannot write {path}: {error.strerror or error}; files saved earlier are intact; free space on that disk"


# tables --------------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """Column names and rows of a CSV file, and whether an incomplete last row was left out."""
    with path.open(newline="", errors="replace") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows, whole != text


def write_rows(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    """Write a CSV file atomically; DiskError if the disk is full or fails."""
    with replacing(path) as new, new.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
