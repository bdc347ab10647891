"""Functions and classes of one's own in settings, written as ``package.module:name``."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from vaezoo.config.errors import ConfigError, one_line

KEYS = ("model.network", "data.dataset")
"""Settings that may name one."""


def is_own(value: Any) -> bool:
    """Whether a setting names a function or class of one's own."""
    return isinstance(value, str) and ":" in value


def named(config: Mapping[str, Any]) -> dict[str, str]:
    """The functions and classes that a config names, by key."""
    groups = ((key, *key.split(".")) for key in KEYS)
    values = {key: config[group].get(name) for key, group, name in groups if isinstance(config.get(group), Mapping)}
    return {key: value for key, value in values.items() if is_own(value)}


def module_of(value: str) -> str:
    """The module that is named before the colon."""
    return value.partition(":")[0]


def located(value: str, key: str) -> Callable[..., Any]:
    """What the setting ``key`` names; ConfigError unless it is a function or class that is defined in that module.

    Imports the module, so a config from elsewhere must have passed ``vaezoo.runs.trust`` before.
    """
    module, _, name = value.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key} must name a function or class as package.module:name, on PYTHONPATH or installed, got {value!r}"
            f" ({one_line(error)})"
        ) from error
    if not callable(found) or getattr(found, "__module__", None) != module:
        raise ConfigError(f"{key} must name a function or class that is defined in {module}, got {name!r}")
    return found
