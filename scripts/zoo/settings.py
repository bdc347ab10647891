"""Settings of models as tables, with the defaults and comments of their yaml files."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from vaezoo.commands.settings_help import Comments, read_comments
from vaezoo.config.hydra_config import CONFIGS

MODELS = CONFIGS / "model"
EVERYWHERE = ("_shared", "_continuous", "_vae")
"""Files whose settings are on a page of their own, because many models have them."""
HIDDEN = ("defaults", "_target_", "_convert_")
ENTRY = re.compile(r"(?<=[\w)}])(?<!\band)(?<!\bor) (?=\w+: \{)")
"""Between the options of one part and those of the next, which are on lines of their own in a file."""


def ancestry(name: str) -> list[str]:
    """A file of configs/model and those that it extends, the furthest first."""
    parents = [parent for parent in _content(name).get("defaults", ()) if parent != "_self_"]
    return [*dict.fromkeys(each for parent in parents for each in ancestry(parent)), name]


def table_of_model(name: str) -> str:
    """The settings of a model beside those that are everywhere; empty if it has none."""
    files = ancestry(name)
    values: dict[str, Any] = {}
    for file in files:
        if file not in EVERYWHERE:
            values |= dict(_leaves(_content(file)))
    values = {key: value for key, value in values.items() if not any(other.startswith(f"{key}.") for other in values)}
    shared = _comments([file for file in files if file in EVERYWHERE][-1])
    return _table(values, {key: _own(text, shared.get(key)) for key, text in _comments(name).items()})


def _own(comment: str, shared: str | None) -> str:
    """What a model's files say beyond a shared one."""
    if shared is None:
        return comment
    return comment.removeprefix(shared).removeprefix("; ") or "see [settings of many models](settings.md)"


def table_of_file(name: str) -> str:
    """The settings in one file."""
    return _table(dict(_leaves(_content(name))), _comments(name))


def _content(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
    return found


def _comments(name: str) -> Mapping[str, str]:
    comments = Comments()
    read_comments(MODELS / f"{name}.yaml", "model", comments)
    return comments.of


def _leaves(content: Mapping[str, Any], before: str = "model.") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{before}{key}.")
        elif key not in HIDDEN:
            yield f"{before}{key}", value


def _table(values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    if not values:
        return ""
    lines = ["| setting | default | |", "| --- | --- | --- |"]
    for key, value in values.items():
        shown = yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()
        comment = (
            ENTRY.sub("; ", " ".join(comments.get(key, "").split()))
            .replace("|", r"\|")
            .replace("*", r"\*")
            .replace("<", r"\<")
        )
        lines.append(f"| `{key}` | `{shown}` | {comment} |")
    return "\n".join(lines)
