"""Optional packages: the extra of pyproject.toml that brings each of them, and what to say where one is missing."""

from importlib import import_module
from typing import Any

from vaezoo.config.errors import ConfigError

LAUNCHERS = {"joblib": "sweep", "optuna": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
"""Launchers and sweepers of Hydra that need packages of their own, and the extra that installs these."""


def how_to_install(extra: str) -> str:
    """The command that installs an extra. It names no package on an index: vaezoo is installed from its clone."""
    return f'pip install -e ".[{extra}]" in the clone of vaezoo'


def missing(setting: str, extra: str) -> str:
    """One sentence for a setting whose packages are not installed."""
    return f"{setting} needs packages that are not installed: {how_to_install(extra)}"


def need(module: str, extra: str) -> Any:
    """Import a module that ``extra`` installs; ConfigError where its package is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(f"this needs the package {package}; to install it: {how_to_install(extra)}") from error
