"""Chooses ``data.range`` from training images: the levels of files and arrays that become black and white."""

import logging
from collections.abc import Sequence
from typing import Any

from vaezoo.config.errors import DataError, printable
from vaezoo.data.arrays import ArrayImages, kind_of_values
from vaezoo.data.files import EncodedImages, opened
from vaezoo.data.levels import FULL, Extremes, Levels, extremes, kind_of
from vaezoo.data.on_disk import ImagesOnDisk
from vaezoo.distributed.rank_zero import is_rank_zero

MOST_OPENED = 1000
"""Maximum number of training files inspected, in the random order of their split."""

MOST_PLAIN = 64
"""Maximum number of 8-bit files inspected: only masks and sensors with few bits use a small part of their range."""

DARK = 64
"""8-bit images are reported as dark if all their levels are below this one, a quarter of the range."""

SIDE = 256
"""Minimum size at which JPEG files are inspected, in pixels."""

logger = logging.getLogger(__name__)


def find(train: ImagesOnDisk) -> Levels | None:
    """The levels that become 0 and 1, or None for the full range.

    For files with more than 8 bits, 0 and the largest level with as many bits as they use. Rank 0 logs the result.
    DataError if the levels are ambiguous.
    """
    seen, names = _look(train)
    kinds = {kind: _joined(seen, kind) for kind in FULL if any(each.kind == kind for each in seen)}
    found = {kind: _levels(known, names[kind]) for kind, known in kinds.items()}
    partial = [kind for kind, levels in found.items() if levels != FULL[kind]]
    if len(kinds) > 1 and partial:
        some = " and ".join(f"{kind} images (such as {printable(names[kind])})" for kind in kinds)
        raise DataError(
            f"there are both {some}, but the levels of the {partial[0]} ones only extend to {kinds[partial[0]].high:g};"
            " convert them to one kind, or set data.range=full to take each kind's levels as they are"
        )
    for kind, known in kinds.items():
        _log_levels(known, found[kind], sum(each.kind == kind for each in seen))
    return found[partial[0]] if partial else None


def refuse_unfit(train: ImagesOnDisk, levels: Levels) -> None:
    """Raise DataError if the first file, and so most likely all, cannot have such levels."""
    what = f"Pillow reads {train.path(0)} with 8 bits per channel"
    if isinstance(train, ArrayImages):
        kind, what = kind_of_values(train.array), f"{train.array.where} has 8 bits"
    else:
        assert isinstance(train, EncodedImages)
        try:
            with opened(train.content(0), SIDE) as image:
                kind = kind_of(image)
        except Exception:  # reported where it is decoded
            return
    if kind == "8-bit" and levels[1] > FULL[kind][1]:
        raise DataError(f"data.range extends to {levels[1]:g}, but {what}; lower data.range, or leave it out")


def _look(train: ImagesOnDisk) -> tuple[list[Extremes], dict[str, str]]:
    """Extremes of some files, and the first file of each kind. Unreadable files are reported when they are decoded."""
    if isinstance(train, ArrayImages):
        return train.look(), {kind_of_values(train.array): train.array.where}
    seen: list[Extremes] = []
    names: dict[str, str] = {}
    plain = 0
    assert isinstance(train, EncodedImages)
    for position in range(min(len(train), MOST_OPENED)):
        try:
            with opened(train.content(position), SIDE) as image:
                is_plain = kind_of(image) == "8-bit"
                if is_plain and plain == MOST_PLAIN:
                    continue
                plain += is_plain
                seen.append(extremes(image))
        except Exception:  # damaged files make Pillow raise almost anything
            continue
        names.setdefault(seen[-1].kind, train.path(position))
    return seen, names


def _joined(seen: Sequence[Extremes], kind: str) -> Extremes:
    known = [each for each in seen if each.kind == kind]
    return Extremes(kind, min(each.low for each in known), max(each.high for each in known))


def _levels(known: Extremes, name: str) -> Levels:
    """The range of one kind of file; 8-bit files keep their full range."""
    if known.kind == "8-bit" or known.high == 0 <= known.low:
        return FULL[known.kind]
    if known.low < 0 or known.high >= 2**31:
        raise DataError(
            f"the levels of {known.kind} images such as {printable(name)} are {known.low:g} to {known.high:g}, which"
            " does not determine the levels of black and white; set data.range=[LOW,HIGH]"
        )
    if known.kind == "floating-point" and known.high <= 1:
        return FULL[known.kind]
    return 0, 2 ** bits(known.high) - 1


def bits(level: float) -> int:
    """Number of bits of a non-negative level, rounded up to an integer; at least one."""
    whole = int(level) + (level > int(level))
    return max(1, whole.bit_length())


def _log_levels(known: Extremes, levels: Levels, count: int) -> None:
    """Log the range chosen for files with more than 8 bits, and a warning if images are dark."""
    what = f"the largest level of {count:,} {known.kind} training image{'' if count == 1 else 's'} is {known.high:g}"
    if not is_rank_zero():
        return
    if known.high == 0:
        logger.warning("levels      %s: all of them are black", what)
    elif known.kind != "8-bit":
        logger.info("levels      %s: 0 to %g become black to white (data.range)", what, levels[1])
    elif known.high < DARK:
        most = 2 ** bits(known.high) - 1
        masks = ", as in masks saved as 0 and 1" if most == 1 else ""
        logger.warning(
            "levels      %s of 255%s: they are almost black; data.range=[0,%d] makes %d white", what, masks, most, most
        )


def setting(levels: Levels | None) -> Any:
    """Levels as a value of ``data.range``."""
    return "full" if levels is None else [int(level) if level == int(level) else level for level in levels]
