"""Optional packages: the extra of pyproject.toml that installs each, and messages for missing ones."""

from importlib import import_module
from typing import Any

from vaezoo.config.errors import ConfigError

LAUNCHERS = {"joblib": "sweep", "optuna": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
"""Hydra launchers and sweepers that need optional packages, and the extra that installs them."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra, from the clone and not from a package index."""
    return f'pip install -e ".[{extra}]" in the clone of vaezoo'


def missing(setting: str, extra: str) -> str:
    """The error message for a setting whose packages are not installed."""
    return f"{setting} needs packages that are not installed: {how_to_install(extra)}"


def need(module: str, extra: str) -> Any:
    """Import a module that ``extra`` installs; ConfigError if its package is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(f"this needs the package {package}; to install it: {how_to_install(extra)}") from error
