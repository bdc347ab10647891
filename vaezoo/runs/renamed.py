"""Classes that have moved since a run was recorded: old names in its config and their new ones."""

from typing import Any

RENAMED = {
    "vaezoo.callbacks.": "vaezoo.training.callbacks.",
    "vaezoo.loggers.": "vaezoo.training.loggers.",
    "vaezoo.sharding.": "vaezoo.training.fsdp.",
    "vaezoo.trackers.": "vaezoo.training.trackers.",
    "vaezoo.trainer.": "vaezoo.training.trainer.",
}
"""Old and new prefixes of a ``_target_``."""


def current(node: Any) -> Any:
    """The plain settings with each ``_target_`` replaced by its current name."""
    if isinstance(node, list):
        return [current(value) for value in node]
    if not isinstance(node, dict):
        return node
    return {name: _target(value) if name == "_target_" else current(value) for name, value in node.items()}


def _target(name: Any) -> Any:
    before = next((before for before in RENAMED if str(name).startswith(before)), "")
    return RENAMED[before] + str(name).removeprefix(before) if before else name
