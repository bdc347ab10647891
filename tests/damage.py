"""Records of a run with single values replaced, as a slip of an editor or another program would leave them."""

import csv
import io
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import yaml

VALUES: tuple[Any, ...] = (None, [], {}, -1, "abc", float("nan"), 10**30)
"""What each value of a record is replaced by in turn; besides, it is left out."""
CELLS = ("", "abc", "nan", "inf", "-1", "1" + "0" * 30, "1,2,3", '"')
RECORDS = ("config.yaml", "summary.json", "evaluation.json", "mixture.json", "changes.json", "metrics.csv")


class Damage(NamedTuple):
    """A record of a run, where in it, what stands there now, and the whole of its text."""

    record: str
    key: str
    value: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.record}:{self.key}={self.value}"


def damages(run: Path) -> list[Damage]:
    """Every damage of every record of a sound run, in a fixed order."""
    return [damage for record in RECORDS for damage in _damages(run / record)]


def _damages(path: Path) -> Iterator[Damage]:
    if path.suffix == ".csv":
        yield from _damaged_table(path)
        return
    content = yaml.safe_load(path.read_text())  # JSON is YAML
    write = yaml.safe_dump if path.suffix == ".yaml" else json.dumps
    for keys in _places(content):
        for value in VALUES:
            changed = _replaced(content, keys, value)
            yield Damage(path.name, ".".join(map(str, keys)), repr(value), write(changed))
        if keys:
            yield Damage(path.name, ".".join(map(str, keys)), "nothing", write(_without(content, keys)))


def _places(node: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value stands, those in mappings and lists after these; of long lists the first value only."""
    yield keys
    children = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ())
    for key, child in children if isinstance(node, dict) else children[:1]:
        yield from _places(child, (*keys, key))


def _replaced(content: Any, keys: tuple[Any, ...], value: Any) -> Any:
    if not keys:
        return value
    changed = deepcopy(content)
    _parent(changed, keys)[keys[-1]] = value
    return changed


def _without(content: Any, keys: tuple[Any, ...]) -> Any:
    changed = deepcopy(content)
    del _parent(changed, keys)[keys[-1]]
    return changed


def _parent(node: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys[:-1]:
        node = node[key]
    return node


def _damaged_table(path: Path) -> Iterator[Damage]:
    """One cell of each column in the first row of names and in the last row of numbers."""
    rows = list(csv.reader(io.StringIO(path.read_text())))
    for row in (0, len(rows) - 1):
        for column, cell in enumerate(CELLS[: len(rows[row])] if row else rows[row]):
            for value in CELLS:
                changed = deepcopy(rows)
                changed[row][column] = value
                text = "\n".join(",".join(cells) for cells in changed) + "\n"
                yield Damage(path.name, f"{row}.{column} {cell}"[:40], repr(value), text)
    yield Damage(path.name, "", "nothing", "")
