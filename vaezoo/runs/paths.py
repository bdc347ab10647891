"""Checks of output paths in settings, before anything is written; and the runs in folders that are given."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError
from vaezoo.runs.folder import RECORD

LONGEST_NAME, LONGEST_PATH = 200, 3800
"""Maximum bytes of a name and of a path; file systems allow 255 and 4096, and the files of a run need some of them."""

LEFT_BY_JOBS = (".err", ".json", ".lock", ".log", ".new", ".out", ".txt", ".yaml", ".yml")
"""Suffixes of files that job scripts, sweeps and runs that never started may leave in a run folder."""


def folder(value: Any, key: str) -> Path:
    """The folder path in a setting; ConfigError for an invalid path or the root of the file system."""
    path = place(value, key)
    if path.resolve() == Path(path.resolve().anchor):
        raise ConfigError(f"{key} must be a separate folder, got {value}, the root of the file system")
    return path


def file(value: Any, key: str) -> Path:
    """The file path in a setting; ConfigError for an invalid path or a folder."""
    path = place(value, key)
    if path.name in ("", "..") or str(value).endswith("/") or path.is_dir():
        raise ConfigError(f"{key} must be the name of a file, such as {path / 'model'}, got {value}, which is a folder")
    return path


def run_folder(value: Any, key: str) -> Path:
    """The path of a run folder; ConfigError if it is invalid or contains files that are not a run's.

    A folder that already contains a run is accepted here; ``runs.refuse_if_taken`` checks that.
    """
    path = folder(value, key)
    if (path / "config.yaml").exists() or not path.is_dir():
        return path
    try:
        foreign = sorted(_foreign(path.iterdir()))
    except OSError as error:
        raise ConfigError(f"{key}={value} cannot be read: {error.strerror}; choose another folder") from error
    if foreign:
        raise ConfigError(f"{key}={value} contains other files, such as {foreign[0]}; choose an empty or a new folder")
    return path


def _foreign(children: Iterable[Path]) -> list[str]:
    """Names of the entries that belong neither to a run nor to a job script."""
    known = (*RECORD, "figures", "nonfinite")
    return [
        child.name
        for child in children
        if child.name not in known
        and not child.name.startswith((".", "events.out.tfevents"))
        and child.suffix not in LEFT_BY_JOBS
    ]


def place(value: Any, key: str) -> Path:
    """The path in a setting, whether or not it exists; ConfigError for what is not a valid path."""
    if not isinstance(value, str) or not value.strip() or value == "null" or value[0] + value[-1] in ("[]", "{}"):
        raise ConfigError(f"{key} must be a path, got {value!r}")
    if not value.isprintable():
        raise ConfigError(f"{key} must be a path without control characters, got {value!r}")
    try:
        path = Path(value).expanduser()
        sizes = [len(part.encode()) for part in path.parts]
    except (RuntimeError, UnicodeEncodeError) as error:  # no home folder, or half a character
        raise ConfigError(f"{key} must be a path, got {value!r}: {error}") from error
    if max(sizes, default=0) > LONGEST_NAME or len(str(path.absolute()).encode()) > LONGEST_PATH:
        raise ConfigError(
            f"{key} must have names of at most {LONGEST_NAME} bytes and {LONGEST_PATH} in all, got one of"
            f" {max(sizes)}: {value[:40]}..."
        )
    return path


def runs_in(path: str | Path) -> list[Path]:
    """The run folders in a folder, sorted; the path itself if it is a run, or has none in it."""
    path = Path(path)
    inside = sorted(path.iterdir()) if os.path.isdir(path) and not (path / "config.yaml").exists() else []
    return [child for child in inside if os.path.exists(child / "config.yaml")] or [path]
