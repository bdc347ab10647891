"""Records read from files that a stranger may have written: bounded, and as plain values. It knows no runs."""

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vaezoo.config.errors import RunError, printable

MOST_CONFIG, MOST_JSON, MOST_CSV = 2**20, 2**26, 2**28
"""Bytes of a file that are read at all; real ones are thousands of times smaller, but for long records of metrics."""
MOST_COLUMNS = 10_000
MOST_VALUES, DEEPEST = 10_000, 32
"""Of plain values in a config or a checkpoint: how many, and how many mappings and lists within each other."""


def read_text(path: Path, most: int) -> str:
    """A text file of at most so many bytes; RunError for a longer one, for a device and for what is no text."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise RunError(f"{path} cannot be read: it is not a file")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise RunError(f"{path} cannot be read: it has more than {most:,} bytes, so it is not vaezoo's")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; RunError for anything else."""
    try:
        found = json.loads(read_text(path, MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} cannot be read: it is not a mapping of names to values")
    return found


def read_config(path: Path) -> DictConfig:
    """The settings that a resolved config file holds: plain values, and no more than a config has.

    RunError for tags (which make objects), anchors (of which few lines become gigabytes), interpolations (which ask
    the environment), control characters, and for anything that is larger or deeper than a config.
    """
    text = read_text(path, MOST_CONFIG)
    try:
        _scan(text)
        loaded = OmegaConf.create(text)
        if not isinstance(loaded, DictConfig):
            raise RunError(f"{path} contains no settings")
        plain = OmegaConf.to_container(loaded, resolve=False)
    except (ValueError, RecursionError, AttributeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())[:500]}") from error
    check_plain(plain, str(path))
    for key, value in flat(plain):
        if isinstance(value, str) and ("${" in value or printable(value) != value):
            raise RunError(
                f"{path} cannot be read: {key} is {value[:100]!r}, but a run's config contains no ${{...}} and no"
                f" control characters"
            )
    return loaded


def _scan(text: str) -> None:
    """ValueError for YAML that is more than plain values."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError("a run's config has no tags (!), anchors (&) or aliases (*)")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:  # else the parser's own recursion may end the process
            raise ValueError("it is nested more deeply than a config")


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a file of metrics; what a full disk cut off at its end is left out. RunError for anything else."""
    text = read_text(path, MOST_CSV)
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    try:
        if len(reader.fieldnames or ()) > MOST_COLUMNS:
            raise RunError(f"{path} cannot be read: it has more than {MOST_COLUMNS:,} columns, so it is not vaezoo's")
        return [{name: float(value) for name, value in row.items() if value} for row in reader]
    except (csv.Error, ValueError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} cannot be read: {error}; its rows must be numbers below a header of column names"
        ) from error


def check_plain(values: Any, where: str) -> None:
    """RunError unless these are numbers, texts and nothing in lists and mappings, and few of them."""
    waiting, seen = [(values, 0)], 0
    while waiting:  # counted as often as they are met, since a list that is held twice would be printed twice
        node, depth = waiting.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise RunError(
                f"{where} cannot be read: it contains more settings, or more deeply nested ones, than a model can have"
            )
        if isinstance(node, dict):
            if not all(isinstance(name, str) for name in node):
                raise RunError(f"{where} cannot be read: a setting has a name that is not text")
            waiting += [(child, depth + 1) for child in (*node, *node.values())]
        elif isinstance(node, list | tuple):
            waiting += [(child, depth + 1) for child in node[: MOST_VALUES + 1]]
        elif node is not None and not isinstance(node, str | int | float):
            raise RunError(
                f"{where} cannot be read: it contains a {type(node).__name__}, but only plain values are allowed"
            )


def flat(node: Any, key: str = "", *, whole: bool = False) -> list[tuple[str, Any]]:
    """All values in mappings and lists, and where they stand: ``callbacks.last.dirpath``, ``model.widths.0``.

    With ``whole``, lists and empty mappings are values themselves.
    """
    lists = isinstance(node, list | tuple)
    if (not isinstance(node, dict) and (whole or not lists)) or (whole and not node):
        return [(key, node)]
    children = enumerate(node) if lists else node.items()
    named = ((f"{key}.{name}" if key else str(name), child) for name, child in children)
    return [found for name, child in named for found in flat(child, name, whole=whole)]


def plain(value: Any) -> Any:
    """The same with lists for tuples and dicts for other mappings."""
    if isinstance(value, Mapping):
        return {key: plain(child) for key, child in value.items()}
    return [plain(child) for child in value] if isinstance(value, list | tuple) else value


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
