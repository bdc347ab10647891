"""torchvision's data sets: read from disk or fetched, and what to tell who has no network. It knows no pixels."""

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

TIMEOUT_SECONDS = 15  # torchvision itself would wait for a silent server for ever
OFFLINE = "or use data=digits or data=sprites, which need no network"


log = logging.getLogger(__name__)


class MissingError(DataError):
    """The files of a data set are not on disk."""


def find_class(dataset: str | None) -> Any:
    """The class of that name in torchvision.datasets."""
    # Imported here: it takes seconds, which other sources do not need.
    from torchvision import datasets

    if dataset is None or dataset not in datasets.__all__:
        raise ConfigError(f"data.dataset must be the name of a class in torchvision.datasets, got {dataset!r}")
    return getattr(datasets, dataset)


def read(cls: Any, root: Path, split: str) -> Any:
    """An official split ("train", "valid" or "test") as it lies under ``root``, or DataError."""
    choice = _choose(cls, split)
    try:
        return cls(root, **choice)
    except Exception as error:  # a damaged file makes its parser raise almost anything
        if "download=True" in str(error):  # torchvision's way to say that files are missing
            remedy = f"train or run `python scripts/prepare_data.py` with its name to download it, {OFFLINE}"
            raise MissingError(f"{_missing(cls, root)}; {remedy}") from error
        raise DataError(
            f"the files of {cls.__name__} in {places(cls, root)[0]} cannot be read ({_reason(error)}); delete them and"
            " download them again"
        ) from error


def fetch(cls: Any, root: Path, split: str) -> None:
    """Download an official split where it is not there yet; DataError says what could not be had, and from where."""
    folder, names, addresses = places(cls, root)
    before = set(folder.glob("*"))
    if not all(hashes.md5_of(cls).values()):
        log.warning("no hash of %s is known, so its files are not checked against the published ones", cls.__name__)
    try:
        with _timeout(TIMEOUT_SECONDS), unpacking_inside():
            cls(root, download=True, **_choose(cls, split))
    except Exception as error:  # network, disk, permission, checksum: torchvision has no error of its own for any
        _remove(hashes.spoiled(cls, folder), before)
        raise DataError(
            f"{_missing(cls, root)} and cannot be downloaded from {' or '.join(addresses)} ({_reason(error)}); "
            f"put {', '.join(names)} into {folder} yourself, {OFFLINE}"
        ) from error


def _remove(paths: list[Path], before: set[Path]) -> None:
    """Remove files unless they lay there before."""
    for path in paths:
        if path not in before:
            path.unlink(missing_ok=True)


def note_other_files(cls: Any, root: Path) -> None:
    """Warn of files on disk that are not the published ones: they are the user's own, so they are used."""
    for path in hashes.differing(cls, places(cls, root)[0]):
        log.warning(
            "%s is not the published file of %s, so results are not comparable with published ones; delete it to"
            " download it again",
            printable(str(path)),
            cls.__name__,
        )


def is_there(cls: Any, root: Path, split: str) -> bool:
    """Whether an official split lies under ``root``; DataError where it does and is damaged."""
    try:
        read(cls, root, split)
    except MissingError:
        return False
    return True


def places(cls: Any, root: Path) -> tuple[Path, list[str], list[str]]:
    """The folder that torchvision looks in, the files that it wants there, and the addresses that it has them from."""
    if hasattr(cls, "resources"):
        return root / cls.__name__ / "raw", [name for name, _ in cls.resources], list(cls.mirrors)
    if hasattr(cls, "split_list"):
        wanted = [cls.split_list[split] for split in ("train", "test")]
        return root, [name for _, name, _ in wanted], [address for address, _, _ in wanted]
    if hasattr(cls, "file_list"):
        return root / cls.base_folder, [name for *_, name in cls.file_list], ["Google Drive"]
    return root, [getattr(cls, "filename", "its files")], [getattr(cls, "url", "its home page")]


def _choose(cls: Any, split: str) -> dict[str, Any]:
    """The argument by which ``cls`` tells its official splits apart."""
    parameters = inspect.signature(cls).parameters
    if "train" in parameters:
        return {"train": split == "train"}
    if "split" in parameters:
        return {"split": split}
    raise ConfigError(f"data.dataset={cls.__name__} has no official train and test splits; choose another one")


def _missing(cls: Any, root: Path) -> str:
    return f"{cls.__name__} is not in {places(cls, root)[0]}"


def _reason(error: Exception) -> str:
    """The last cause that an error names, on one line."""
    text = " ".join(str(error).split("got:")[-1].split())
    return text[:200] or type(error).__name__


@contextmanager
def unpacking_inside() -> Iterator[None]:
    """Have tar files unpack into the folder that is asked for only; not every torchvision and Python does."""
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
