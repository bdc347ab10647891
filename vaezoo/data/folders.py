"""Folders of image files: lists the files with their splits and classes, without reading them."""

import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import torch

from vaezoo.config.errors import DataError, printable
from vaezoo.data.files import ImageFiles
from vaezoo.data.images import Factor, Pool
from vaezoo.data.on_disk import MAX_NAMED
from vaezoo.data.pixels import Shape

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"))

FOLLOW = "data.follow_links=true follows them"
"""Remedy for skipped links."""

SOME_LINKS = 3
"""Number of skipped links named in a warning; a data set may consist of links."""

logger = logging.getLogger(__name__)


def open_folder(root: Path, image_shape: Shape, *, follow_links: bool = False) -> Pool:
    """The images under ``root``, or under its ``train``, ``val`` and ``test``; subfolders are the classes.

    Raises DataError if there are no images, or the layout is ambiguous.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; set data.root to the folder that contains the images")
    splits = {name: root / name for name in ("train", "val", "test") if _is_folder(root / name, follow_links)}
    if splits and "train" not in splits:
        raise DataError(f"{root} has {' and '.join(splits)} but no train folder; add one with the training images")
    if splits:
        _refuse_what_lies_beside(root, splits, follow_links)
    folders = splits or {"train": root}
    listed = {name: list_images(folder, root, follow_links=follow_links) for name, folder in folders.items()}
    classes = sorted({path.parts[0] for paths in listed.values() for path in paths if len(path.parts) > 1})
    # A single class carries no information.
    classes = classes if len(classes) > 1 else []
    parts = {name: _files(splits.get(name, root), paths, classes, image_shape) for name, paths in listed.items()}
    factors = (Factor("class", tuple(map(printable, classes))),) if classes else ()
    return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)


def list_images(folder: Path, root: Path, *, follow_links: bool = False) -> list[PurePath]:
    """The image files under ``folder``, relative to it and sorted, without hidden ones.

    Links to folders, and to files outside ``root``, are skipped unless ``follow_links``; pipes, devices and broken
    links are always skipped. Both are logged. Raises DataError if there are no images.
    """
    found = _Found(root.resolve(), follow_links)
    for base, folders, names in os.walk(folder, onerror=_refuse, followlinks=follow_links):
        if follow_links:
            found.refuse_twice(base)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.links += [path for name in folders if (path := Path(base, name)).is_symlink() and not follow_links]
        for name in names:
            if PurePath(name).suffix.lower() in EXTENSIONS and not name.startswith("."):
                found.add(Path(base, name))
    found.warn()
    if not found.files:
        what = f"; {len(found.links):,} links were skipped; {FOLLOW}" if found.links else ""
        raise DataError(
            f"there are no images in {folder}; files must end in one of {' '.join(sorted(EXTENSIONS))}{what}"
        )
    return sorted(path.relative_to(folder) for path in found.files)


@dataclass
class _Found:
    """The content of a folder: images, skipped links, and entries that are not regular files."""

    root: Path
    follow_links: bool
    files: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    odd: list[Path] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Add a path with an image's extension to the list that it belongs to."""
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            (self.files if stat.S_ISREG(mode) else self.odd).append(path)
            return
        target = path.resolve()
        if not target.is_file():
            self.odd.append(path)
        else:
            (self.files if self.follow_links or target.is_relative_to(self.root) else self.links).append(path)

    def refuse_twice(self, folder: str) -> None:
        """Raise DataError if links lead to a folder twice: the walk might not end, and images would count twice."""
        first = self.seen.setdefault(os.path.realpath(folder), folder)
        if first != folder:
            raise DataError(
                f"{folder} is the same folder as {first} through a link, so its images would count twice; remove one"
            )

    def warn(self) -> None:
        """Log what was skipped, and how to include it."""
        if self.links:
            some = "1 link" if len(self.links) == 1 else f"{len(self.links):,} links"
            logger.warning(
                "skipped %s to folders or to files elsewhere (%s): %s", some, _few(self.links, SOME_LINKS), FOLLOW
            )
        if self.odd:
            logger.warning("skipped broken links, pipes or devices: %s", _few(self.odd, MAX_NAMED))


def _few(paths: list[Path], most: int) -> str:
    more = f" and {len(paths) - most:,} more" if len(paths) > most else ""
    return printable(", ".join(map(str, sorted(paths)[:most]))) + more


def _refuse_what_lies_beside(root: Path, splits: dict[str, Path], follow_links: bool) -> None:
    """Raise DataError if images beside the splits would be ignored, as with a class that is called train."""
    for path in sorted(root.iterdir()):
        hidden = path.name.startswith(".") or path.name in splits
        if not hidden and (_is_folder(path, follow_links) or path.suffix.lower() in EXTENSIONS):
            raise DataError(
                f"{path} is beside the {' and '.join(splits)} folder of {root} and would be ignored; keep only train,"
                " val and test there, or rename a class of that name"
            )


def _is_folder(path: Path, follow_links: bool) -> bool:
    return path.is_dir() and (follow_links or not path.is_symlink())


def _files(folder: Path, paths: list[PurePath], classes: list[str], image_shape: Shape) -> ImageFiles:
    """The files with their classes, or -1 without classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers.get(path.parts[0], -1) for path in paths])
    return ImageFiles.of([folder / path for path in paths], labels, image_shape)


def _refuse(error: OSError) -> None:
    """Error handler of os.walk, which would skip unreadable folders."""
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}); change its permissions or move it away"
    ) from error
