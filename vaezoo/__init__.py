"""vaezoo: train, understand and compare autoencoders fairly."""

from importlib import import_module

from vaezoo.config import VERSION as __version__  # noqa: F401 - public

TYPE_CHECKING = False  # type checkers treat this as True; importing typing takes longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from vaezoo.data import ImageDataModule as ImageDataModule
    from vaezoo.models import *  # noqa: F403
    from vaezoo.models.loading import Run as Run
    from vaezoo.models.loading import load as load

_HOME = {"ImageDataModule": "vaezoo.data", "Run": "vaezoo.models.loading", "load": "vaezoo.models.loading"}
"""Where names are that are not models."""


def __getattr__(name: str) -> "Any":
    """Models and the names above, imported on first access: ``import vaezoo`` and the command line need no torch."""
    if name == "__all__":
        return sorted([*import_module("vaezoo.models").__all__, *_HOME, "__version__"])
    if name not in _HOME and not name[:1].isupper():  # packages have lower-case names, and classes do not
        raise AttributeError(f"module 'vaezoo' has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "vaezoo.models")), name)


def __dir__() -> list[str]:
    return list(__getattr__("__all__"))
