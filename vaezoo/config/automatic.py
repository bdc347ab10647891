"""Settings whose value is ``auto``: what they become, decided by the other settings of a config alone."""

from collections.abc import MutableMapping
from typing import Any

AUTO = "auto"

BINARY_SOURCES = ("sprites",)
"""Sources whose pixels are 0 or 1 by themselves."""


def is_binary(source: str | None, binarize: str | None) -> bool:
    """Whether data settings say that every pixel of validation and test images is 0 or 1."""
    return source in BINARY_SOURCES or binarize not in (None, "none")


def resolve(cfg: MutableMapping[Any, Any]) -> None:
    """Replace ``model.likelihood=auto``: ``bernoulli`` for binary images, ``learned_gaussian`` for all others.

    A Bernoulli gives grey levels no probability, and its cross-entropy is so flat in them that the KL wins too early.
    """
    model, data = cfg["model"], cfg["data"]
    if isinstance(model, MutableMapping) and model.get("likelihood") == AUTO:
        asked = data if isinstance(data, MutableMapping) else {}
        binary = is_binary(asked.get("source"), asked.get("binarize"))
        model["likelihood"] = "bernoulli" if binary else "learned_gaussian"
