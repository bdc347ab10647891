"""Known hashes of downloaded data sets, and the files that differ from them.

torchvision checks the MD5 of downloads, but not of unpacked files that exist already. Results on files that differ from
the published ones are not comparable with published results.
"""

import hashlib
from pathlib import Path
from typing import Any

SHA256 = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}
"""SHA-256 of unpacked files, by torchvision class and file name."""


def md5_of(cls: Any) -> dict[str, str | None]:
    """The files that a torchvision class downloads, with the MD5 that it checks, or None."""
    if hasattr(cls, "resources"):
        return dict(cls.resources)
    if hasattr(cls, "split_list"):
        return {name: md5 for _, name, md5 in (cls.split_list[split] for split in ("train", "test"))}
    if hasattr(cls, "file_list"):
        return {name: md5 for _, md5, name in cls.file_list}
    return {cls.filename: getattr(cls, "tgz_md5", None)} if hasattr(cls, "filename") else {}


def differing(cls: Any, folder: Path) -> list[Path]:
    """The files in ``folder`` whose SHA-256 differs from the known one."""
    known = SHA256.get(cls.__name__, {})
    there = {folder / name: digest for name, digest in known.items() if (folder / name).is_file()}
    return [path for path, digest in there.items() if _digest(path, "sha256") != digest]


def corrupt(cls: Any, folder: Path) -> list[Path]:
    """Downloaded files in ``folder`` whose MD5 is wrong or unknown."""
    there = {folder / name: md5 for name, md5 in md5_of(cls).items() if (folder / name).is_file()}
    return [path for path, md5 in there.items() if md5 is None or _digest(path, "md5") != md5]


def _digest(path: Path, method: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(method, usedforsecurity=method != "md5")).hexdigest()
