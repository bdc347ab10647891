"""Packages that only exporting needs, imported when they are, or a sentence with how to have them."""

from importlib import import_module
from typing import Any

from vaezoo.errors import ConfigError


def need(module: str) -> Any:
    """A module of the extra ``export``; ConfigError where its package is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(f"this needs the package {package}; to have it: pip install 'vaezoo[export]'") from error
