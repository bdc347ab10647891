"""Reading of untrusted JSON, YAML and CSV files: bounded in size, and as plain values only."""

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
"""Maximum bytes of a file; real files are thousands of times smaller, except long metrics."""
MOST_COLUMNS = 10_000
MOST_VALUES, DEEPEST = 10_000, 32
"""Maximum number and nesting depth of the plain values in a config or checkpoint."""


def read_text(path: Path, most: int) -> str:
    """The content of a text file; RunError if it has more than ``most`` bytes or is not a regular UTF-8 file."""
    if not path.is_file():  # opening a pipe would block forever
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
    """The object in a JSON file; RunError if it is unreadable or not an object."""
    try:
        found = json.loads(read_text(path, MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} cannot be read: it is not a mapping of names to values")
    return found


def read_config(path: Path) -> DictConfig:
    """The settings in a resolved config file, with plain values only.

    RunError for tags (which create objects), anchors (a few lines could expand to gigabytes), interpolations (which
    read the environment), control characters, and for files that are too large or too deeply nested.
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
    """ValueError for YAML with tags, anchors or aliases, or nested too deeply."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise ValueError("a run's config has no tags (!), anchors (&) or aliases (*)")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:  # otherwise the parser's recursion could crash the process
            raise ValueError("it is nested more deeply than a config")


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV file of metrics, without an incomplete last row; RunError if they are not all numbers."""
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
    """RunError unless the values are numbers, strings and None in lists and mappings, within the limits above."""
    waiting, seen = [(values, 0)], 0
    while waiting:  # an object that is referenced twice counts twice, because it would be printed twice
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
    """All values in nested mappings and lists, with dotted keys such as ``model.widths.0``.

    With ``whole``, lists and empty mappings are returned as values.
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
    """Whether a value is a finite number and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)
