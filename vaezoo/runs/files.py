"""Files that a crash, a power cut or a full disk leaves whole, and tables in them. They know no runs."""

import csv
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vaezoo.config.errors import DiskError

TEMPORARY_SUFFIX = ".new"
"""What a file is called at the end while it is written; one that is found later was never finished."""

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
"""Errors of a disk, which no program can do anything about."""


def temporary_path(path: Path) -> Path:
    """Where the next version of a file is written, in the same folder."""
    return path.with_name(path.name + TEMPORARY_SUFFIX)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path to write a file's next version to; it takes the place of ``path`` when all of it is on the disk.

    Whatever happens before that leaves ``path`` as it was. DiskError where the disk is full or fails.
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
    """Bring a written file to the disk, then rename it to ``path`` for good."""
    synchronise(new)
    new.replace(path)
    with suppress(OSError):  # some file systems cannot, and their renames are safe or not by themselves
        synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file by one that holds this text."""
    with replacing(path) as new:
        new.write_text(text)


def cannot_write(path: Path | str, error: OSError) -> str:
    """What to tell of a disk that is full or fails."""
    return f"cannot write {path}: {error.strerror or error}; files saved earlier are intact; free space on that disk"


# tables --------------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """Names of a table's columns, its rows, and whether it ends in a torn one, as a kill or a full disk leaves it."""
    with path.open(newline="", errors="replace") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(whole, newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows, whole != text


def write_rows(path: Path, names: list[str], rows: list[dict[str, str]]) -> None:
    """Write a table in one move."""
    with replacing(path) as new, new.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
