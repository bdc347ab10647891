"""Output of ``--help``: the composed config with the comments of its yaml files."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KEY = re.compile(r"(?P<indent> *)(?P<name>[\w/]+):(?P<rest>(\s.*)?)$")
COMMENT = re.compile(r"(?:^|(?<=\s))#\s?(?P<text>.*)$")
COLUMN, NARROWEST, PIPED = 36, 100, 120
"""Column of comments, minimum width, and width without a terminal, in characters."""


@dataclass
class Comments:
    """Comments of yaml files: ``of`` settings by dotted key, and ``about`` groups by their key."""

    of: dict[str, str] = field(default_factory=dict)
    about: dict[str, list[str]] = field(default_factory=dict)


def annotated(settings: str, choices: Mapping[str, Any], configs: Path) -> str:
    """Add the comments of train.yaml and of the chosen file of each group to the yaml text ``settings``.

    ``choices`` maps each group to the name of its file in the folder ``configs``, to a list of names, or to None.
    """
    comments = Comments()
    read_comments(configs / "train.yaml", "", comments)
    for group, chosen in choices.items():
        for name in chosen if isinstance(chosen, list) else [chosen]:
            file = configs / group / f"{name}.yaml"
            if not group.startswith("hydra") and file.is_file():
                read_comments(file, group, comments)
    return "\n".join(_lines(settings, comments))


def read_comments(file: Path, key: str, comments: Comments) -> None:
    """Add the comments of a file, and before them those of the files it includes, for the settings at ``key``."""
    lines = file.read_text().splitlines()
    for name in _included(lines):
        read_comments(file.parent / f"{name}.yaml", key or name.rpartition("/")[0], comments)
    if any(line.startswith("# @package _global_") for line in lines):
        key = ""
    lines = [line for line in lines if not line.startswith("# @package")]
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comments.about.setdefault(key, []).extend(line.removeprefix("#").strip() for line in lines[:head])
    for name, text in _of_keys(lines[head:]):
        full = f"{key}.{name}" if key else name
        comments.of[full] = f"{comments.of[full]}; {text}" if full in comments.of else text


def _included(lines: Iterable[str]) -> list[str]:
    """Files in the defaults list that are included directly, not chosen by a group."""
    defaults = (yaml.safe_load("\n".join(lines)) or {}).get("defaults", [])
    return [name for name in defaults if isinstance(name, str) and name != "_self_"]


def _of_keys(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Dotted keys with the comment behind or above each; continuation lines in the same column are joined."""
    path: list[tuple[int, str]] = []
    pending: list[str] = []
    key, column = "", -1
    for line in [*lines, "end:"]:
        comment, setting = COMMENT.search(line), KEY.match(COMMENT.sub("", line).rstrip())
        if key and comment and not setting and comment.start() == column:
            pending.append(comment["text"])
            continue
        if key and pending:
            yield key, " ".join(pending)
        if key or not line.strip():
            pending = []
        key, column = "", -1
        pending += [comment["text"]] if comment else []
        if setting:
            path = [part for part in path if part[0] < len(setting["indent"])]
            path.append((len(setting["indent"]), setting["name"]))
            key, column = ".".join(name for _, name in path), comment.start() if comment else -1


def _lines(settings: str, comments: Comments) -> Iterator[str]:
    """Lines of the settings with comments: those of a group above it, those of a setting behind it."""
    width = max(NARROWEST, shutil.get_terminal_size((PIPED, 24)).columns)
    yield from _above(comments.about.get("", ()))[1:]
    path: list[tuple[int, str]] = []
    for line in settings.splitlines():
        if setting := KEY.match(line):
            path = [part for part in path if part[0] < len(setting["indent"])]
            path.append((len(setting["indent"]), setting["name"]))
            key = ".".join(name for _, name in path)
            yield from _above(comments.about.get(key, ()))
            yield from _behind(line, comments.of.get(key), width)
        else:
            yield line


def _above(about: Sequence[str]) -> list[str]:
    return ["", *(f"# {line}".rstrip() for line in about)] if about else []


def _behind(line: str, comment: str | None, width: int) -> list[str]:
    """A line with its comment, wrapped into one column; below the line if it is long."""
    if comment is None:
        return [line]
    wrapped = textwrap.wrap(comment, width - COLUMN - 2, break_long_words=False, break_on_hyphens=False)
    first = f"{line:{COLUMN}}# " if len(line) < COLUMN else f"{line}\n{'':{COLUMN}}# "
    return (first + f"\n{'':{COLUMN}}# ".join(wrapped)).splitlines()
