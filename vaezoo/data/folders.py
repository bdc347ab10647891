"""A folder of image files: which files there are, which split and class each belongs to. It reads none of them."""

import logging
import os
import stat
from pathlib import Path, PurePath

import torch

from vaezoo.data.files import MAX_NAMED, ImageFiles
from vaezoo.data.images import Factor, Pool
from vaezoo.data.pixels import Shape
from vaezoo.errors import DataError, printable

EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"))

logger = logging.getLogger(__name__)


def open_folder(root: Path, image_shape: Shape) -> Pool:
    """The images under ``root``, or under its ``train``, ``val`` and ``test``; the folders in there are the classes."""
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; set data.root to the folder that holds the images")
    splits = {name: root / name for name in ("train", "val", "test") if _is_real_folder(root / name)}
    if splits and "train" not in splits:
        raise DataError(f"{root} has {' and '.join(splits)} but no train folder; add one with the training images")
    if splits:
        _refuse_what_lies_beside(root, splits)
    listed = {name: list_images(folder, root) for name, folder in (splits or {"train": root}).items()}
    classes = sorted({path.parts[0] for paths in listed.values() for path in paths if len(path.parts) > 1})
    # One folder alone tells no image from another.
    classes = classes if len(classes) > 1 else []
    parts = {name: _files(splits.get(name, root), paths, classes, image_shape) for name, paths in listed.items()}
    factors = (Factor("class", tuple(map(printable, classes))),) if classes else ()
    return Pool(parts["train"], parts.get("val"), parts.get("test"), factors)


def list_images(folder: Path, root: Path) -> list[PurePath]:
    """The image files under ``folder``, relative to it and sorted; hidden ones and linked folders are left out.

    So are links to files out of ``root``, and what has an image's name and is no file, such as a pipe.
    """
    found: list[PurePath] = []
    odd: list[str] = []
    inside = root.resolve()
    for base, folders, names in os.walk(folder, onerror=_refuse):
        for name in folders:
            if os.path.islink(os.path.join(base, name)):
                logger.warning(
                    "left out %s, a link to a folder; copy or move the folder there", printable(str(Path(base, name)))
                )
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = (name for name in names if PurePath(name).suffix.lower() in EXTENSIONS and not name.startswith("."))
        for path in (Path(base, name) for name in images):
            if _is_own_file(path, inside):
                found.append(path.relative_to(folder))
            else:
                odd.append(str(path))
    if odd:
        more = f" and {len(odd) - MAX_NAMED} more" if len(odd) > MAX_NAMED else ""
        some = printable(", ".join(sorted(odd)[:MAX_NAMED]))
        logger.warning("left out, as a link out of the folder, a pipe or a device: %s%s", some, more)
    if not found:
        raise DataError(f"there are no images in {folder}; files must end in one of {' '.join(sorted(EXTENSIONS))}")
    return sorted(found)


def _is_own_file(path: Path, root: Path) -> bool:
    """Whether it is a file, or a link to one below ``root``."""
    mode = path.lstat().st_mode
    if not stat.S_ISLNK(mode):
        return stat.S_ISREG(mode)
    target = path.resolve()
    return target.is_file() and target.is_relative_to(root)


def _refuse_what_lies_beside(root: Path, splits: dict[str, Path]) -> None:
    """DataError if images would be passed over, as those of a class that happens to be called train."""
    for path in sorted(root.iterdir()):
        hidden = path.name.startswith(".") or path.name in splits
        if not hidden and (_is_real_folder(path) or path.suffix.lower() in EXTENSIONS):
            raise DataError(
                f"{path} lies beside the {' and '.join(splits)} folder of {root} and would be passed over; keep only"
                " train, val and test there, or call a class of that name otherwise"
            )


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _files(folder: Path, paths: list[PurePath], classes: list[str], image_shape: Shape) -> ImageFiles:
    """The files with their class, -1 where there is none."""
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers.get(path.parts[0], -1) for path in paths])
    return ImageFiles.of([folder / path for path in paths], labels, image_shape)


def _refuse(error: OSError) -> None:
    """os.walk would pass over a folder that it may not read."""
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}); change its permissions or leave it out"
    ) from error
