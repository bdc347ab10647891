"""Resolution of settings whose value is ``auto``, from the other settings of a config only."""

from collections.abc import MutableMapping
from typing import Any

AUTO = "auto"

BINARY_SOURCES = ("sprites",)
"""Data sources whose pixels are all 0 or 1."""


def is_binary(source: str | None, binarize: str | None) -> bool:
    """Whether, with these data settings, every pixel of validation and test images is 0 or 1."""
    return source in BINARY_SOURCES or binarize not in (None, "none")


def resolve(cfg: MutableMapping[Any, Any]) -> None:
    """Replace ``model.likelihood=auto`` by ``bernoulli`` for binary images and ``learned_gaussian`` for all others.

    A Bernoulli defines no probability of grey levels, and its cross-entropy is so flat in them that the KL term
    dominates too early.
    """
    model, data = cfg["model"], cfg["data"]
    if isinstance(model, MutableMapping) and model.get("likelihood") == AUTO:
        asked = data if isinstance(data, MutableMapping) else {}
        binary = is_binary(asked.get("source"), asked.get("binarize"))
        model["likelihood"] = "bernoulli" if binary else "learned_gaussian"
