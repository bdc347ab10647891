"""torchvision's data sets: reading from disk and downloading, with error messages for machines without network."""

import inspect
import logging
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError, DataError, printable
from vaezoo.data import hashes

TIMEOUT_SECONDS = 15  # torchvision itself has no timeout
OFFLINE = "or use data=digits or data=sprites, which need no network"


log = logging.getLogger(__name__)


class MissingError(DataError):
    """The files of a data set are not on disk."""


def find_class(dataset: str | None) -> Any:
    """The class of this name in torchvision.datasets; ConfigError if there is none."""
    # Imported here, because it takes seconds and other sources do not need it.
    from torchvision import datasets

    if dataset is None or dataset not in datasets.__all__:
        raise ConfigError(f"data.dataset must be the name of a class in torchvision.datasets, got {dataset!r}")
    return getattr(datasets, dataset)


def read(cls: Any, root: Path, split: str) -> Any:
    """Read an official split ("train", "valid" or "test") from ``root``.

    MissingError if it is not on disk, DataError if it is damaged.
    """
    choice = _choose(cls, split)
    try:
        return cls(root, **choice)
    except Exception as error:  # parsers raise many types for damaged files
        if "download=True" in str(error):  # torchvision's message for missing files
            remedy = f"train or run `python scripts/prepare_data.py` with its name to download it, {OFFLINE}"
            raise MissingError(f"{_missing(cls, root)}; {remedy}") from error
        raise DataError(
            f"the files of {cls.__name__} in {places(cls, root)[0]} cannot be read ({_reason(error)}); delete them and"
            " download them again"
        ) from error


def fetch(cls: Any, root: Path, split: str) -> None:
    """Download an official split unless it is on disk; DataError if that fails, with files and addresses."""
    folder, names, addresses = places(cls, root)
    before = set(folder.glob("*"))
    if not all(hashes.md5_of(cls).values()):
        log.warning("no hash of %s is known, so its files are not checked against the published ones", cls.__name__)
    try:
        with _timeout(TIMEOUT_SECONDS), unpacking_inside():
            cls(root, download=True, **_choose(cls, split))
    except Exception as error:  # network, disk, permissions or checksum: torchvision has no error types of its own
        _remove(hashes.corrupt(cls, folder), before)
        raise DataError(
            f"{_missing(cls, root)} and cannot be downloaded from {' or '.join(addresses)} ({_reason(error)}); "
            f"put {', '.join(names)} into {folder} yourself, {OFFLINE}"
        ) from error


def _remove(paths: list[Path], before: set[Path]) -> None:
    """Delete files that did not exist before."""
    for path in paths:
        if path not in before:
            path.unlink(missing_ok=True)


def note_other_files(cls: Any, root: Path) -> None:
    """Warn about files on disk that differ from the published ones. They are used all the same."""
    for path in hashes.differing(cls, places(cls, root)[0]):
        log.warning(
            "%s is not the published file of %s, so results are not comparable with published ones; delete it to"
            " download it again",
            printable(str(path)),
            cls.__name__,
        )


def is_there(cls: Any, root: Path, split: str) -> bool:
    """Whether an official split is on disk; DataError if it is damaged."""
    try:
        read(cls, root, split)
    except MissingError:
        return False
    return True


def places(cls: Any, root: Path) -> tuple[Path, list[str], list[str]]:
    """The folder that torchvision reads, the names of its files, and the addresses that they are downloaded from."""
    if hasattr(cls, "resources"):
        return root / cls.__name__ / "raw", [name for name, _ in cls.resources], list(cls.mirrors)
    if hasattr(cls, "split_list"):
        wanted = [cls.split_list[split] for split in ("train", "test")]
        return root, [name for _, name, _ in wanted], [address for address, _, _ in wanted]
    if hasattr(cls, "file_list"):
        return root / cls.base_folder, [name for *_, name in cls.file_list], ["Google Drive"]
    return root, [getattr(cls, "filename", "its files")], [getattr(cls, "url", "its home page")]


def _choose(cls: Any, split: str) -> dict[str, Any]:
    """The argument of ``cls`` that selects a split; ConfigError if it has no official splits."""
    parameters = inspect.signature(cls).parameters
    if "train" in parameters:
        return {"train": split == "train"}
    if "split" in parameters:
        return {"split": split}
    raise ConfigError(f"data.dataset={cls.__name__} has no official train and test splits; choose another one")


def _missing(cls: Any, root: Path) -> str:
    return f"{cls.__name__} is not in {places(cls, root)[0]}"


def _reason(error: Exception) -> str:
    """The last part of an error's message, on one line."""
    text = " ".join(str(error).split("got:")[-1].split())
    return text[:200] or type(error).__name__


@contextmanager
def unpacking_inside() -> Iterator[None]:
    """Prevent tar archives from writing outside their target folder, which some versions of torchvision allow."""
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
