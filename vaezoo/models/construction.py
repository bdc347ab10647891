"""Models made from the name of their class, their settings and their weights, of allowed classes only."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vaezoo.config import own_code
from vaezoo.config.errors import RunError
from vaezoo.models.base import Autoencoder
from vaezoo.runs import trust
from vaezoo.runs.trust import OWN, belongs


def make_model(
    path: Path, cls: str, settings: Mapping[str, Any], weights: Mapping[str, Any], packages: Sequence[str]
) -> Autoencoder:
    """The model of class ``cls`` with these settings and weights, in evaluation mode.

    RunError, naming the file ``path``, if the class is not in ``packages`` or settings and weights do not fit it.
    """
    module, _, name = cls.rpartition(".")
    trust.check_own_code({"model": settings}, path, packages)
    if not belongs(module, packages):
        raise RunError(f"{path} asks for the class {cls}; to allow it, pass packages=[{module.partition('.')[0]!r}]")
    try:
        model = _build(_model_class(module, name), settings, weights)
    except Exception as error:  # a model may raise anything for wrong settings
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{path} does not fit {cls} as it is installed here: {reason}") from error
    return model.eval()


def _model_class(module: str, name: str) -> type[Autoencoder]:
    """The subclass of Autoencoder that is defined in that module under that name; TypeError for anything else."""
    cls = getattr(import_module(module), name)
    if not (isinstance(cls, type) and issubclass(cls, Autoencoder) and cls.__module__ == module):
        raise TypeError("it is not a model")
    return cls


def _build(cls: type[Autoencoder], settings: Mapping[str, Any], weights: Mapping[str, Any]) -> Autoencoder:
    """The model with these settings and weights; RuntimeError, before memory is allocated, if they do not fit.

    It is first created on torch's meta device, because a few bytes of settings can ask for terabytes. A user's own (so
    trusted) class or network that cannot be created there is created directly.
    """
    try:
        with torch.device("meta"):
            wanted = {name: tensor.shape for name, tensor in cls(**settings).state_dict().items()}
    except (NotImplementedError, RuntimeError):
        if belongs(cls.__module__, OWN) and not own_code.is_own(settings.get("network")):
            raise
        wanted = {name: tensor.shape for name, tensor in weights.items()}
    wrong = [name for name, shape in wanted.items() if name in weights and weights[name].shape != shape]
    lacking = sorted(wanted.keys() ^ weights.keys())
    if wrong:
        name = wrong[0]
        raise RuntimeError(
            f"{name} is {list(weights[name].shape)} in the file and {list(wanted[name])} by its settings"
        )
    if lacking:
        raise RuntimeError(f"its weights do not match its settings: missing or unexpected {', '.join(lacking[:3])}")
    model = cls(**settings)
    model.load_state_dict(weights)
    return model
