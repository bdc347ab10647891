"""Callbacks: figures, checkpoints, progress and cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaezoo.training.callbacks.averages import AveragedWeights
from vaezoo.training.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from vaezoo.training.callbacks.exact_resume import Resuming
from vaezoo.training.callbacks.progress import ProgressBar
from vaezoo.training.callbacks.record import Record
from vaezoo.training.callbacks.rng import RandomState
from vaezoo.training.callbacks.stopping import Stopping
from vaezoo.training.callbacks.timing import Cost

if TYPE_CHECKING:
    from vaezoo.training.callbacks.images import Interpolations, Levels, Reconstructions, Samples, Traversals
    from vaezoo.training.callbacks.indices import IndexMaps
    from vaezoo.training.callbacks.latents import LatentKL, LatentMap

# Imported on first use: a run without figures does not need to load matplotlib.
_PICTURES = {
    "IndexMaps": "indices",
    "Interpolations": "images",
    "LatentKL": "latents",
    "LatentMap": "latents",
    "Levels": "images",
    "Reconstructions": "images",
    "Samples": "images",
    "Traversals": "images",
}

__all__ = [
    "AveragedWeights",
    "BestCheckpoint",
    "Cost",
    "IndexMaps",
    "Interpolations",
    "LastCheckpoint",
    "LatentKL",
    "LatentMap",
    "Levels",
    "ProgressBar",
    "RandomState",
    "Reconstructions",
    "Record",
    "Resuming",
    "Samples",
    "Stopping",
    "Traversals",
]


def __getattr__(name: str) -> Any:
    if name not in _PICTURES:
        raise AttributeError(f"module 'vaezoo.training.callbacks' has no attribute {name!r}")
    return getattr(import_module(f"vaezoo.training.callbacks.{_PICTURES[name]}"), name)
