"""What has changed since a run was recorded: classes that have moved, and settings that did not exist."""

from typing import Any

RENAMED = {
    "vaezoo.callbacks.": "vaezoo.training.callbacks.",
    "vaezoo.loggers.": "vaezoo.training.loggers.",
    "vaezoo.sharding.": "vaezoo.training.fsdp.",
    "vaezoo.trackers.": "vaezoo.training.trackers.",
    "vaezoo.trainer.": "vaezoo.training.trainer.",
}
"""Old and new prefixes of a ``_target_``."""

_OF_VAES = {"posterior": "diagonal", "prior": "normal", "bound": "elbo"}
ADDED = {f"vaezoo.models.{name}": _OF_VAES for name in ("VAE", "BetaVAE", "ConvVAE")}
"""Settings that a class did not have, with the values that do what it did then."""


def current(node: Any) -> Any:
    """The plain settings with each ``_target_`` replaced by its current name, and the settings added since."""
    if isinstance(node, list):
        return [current(value) for value in node]
    if not isinstance(node, dict):
        return node
    found = {name: _target(value) if name == "_target_" else current(value) for name, value in node.items()}
    return found | {
        name: value for name, value in ADDED.get(str(found.get("_target_")), {}).items() if name not in found
    }


def _target(name: Any) -> Any:
    before = next((before for before in RENAMED if str(name).startswith(before)), "")
    return RENAMED[before] + str(name).removeprefix(before) if before else name
