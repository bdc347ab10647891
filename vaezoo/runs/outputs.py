"""Files that commands write where the user asks for them: whole, or not at all."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError, DiskError, RunError
from vaezoo.runs import paths
from vaezoo.runs.files import CANNOT_WRITE, cannot_write, replacing


def checked_out(value: Any, endings: Collection[str], *, overwrite: bool = False) -> Path:
    """The path of a file to write, with one of these endings; ConfigError for another, RunError if it exists."""
    path = paths.file(value, "out")
    if path.suffix.lower() not in endings:
        raise ConfigError(f"out must end in {', '.join(endings)}, which decides the format, got {value}")
    if path.exists() and not overwrite:
        raise RunError(f"{path} already exists; choose another out=, or set overwrite=true")
    return path


@contextmanager
def output(path: Path) -> Iterator[Path]:
    """A temporary path that replaces ``path`` at the end of the block; its folder is created.

    If the block fails, nothing is written. RunError if the path cannot be written, DiskError if the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            new.touch()
            yield new
    except OSError as error:
        if error.errno in CANNOT_WRITE:
            raise DiskError(cannot_write(path, error)) from error
        raise RunError(f"cannot write to out={path}: {error.strerror or error}; choose another") from error
