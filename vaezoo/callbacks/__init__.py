"""What happens beside training: pictures, checkpoints, progress and cost. They know no variant of a model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vaezoo.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from vaezoo.callbacks.cost import Cost
from vaezoo.callbacks.progress import ProgressBar
from vaezoo.callbacks.random_state import RandomState
from vaezoo.callbacks.record import Record
from vaezoo.callbacks.resuming import Resuming
from vaezoo.callbacks.stopping import Stopping

if TYPE_CHECKING:
    from vaezoo.callbacks.images import Interpolations, Reconstructions, Samples, Traversals
    from vaezoo.callbacks.latents import LatentKL, LatentMap

# Imported when first asked for: they draw, and a run without pictures need not load what draws.
_PICTURES = {
    "Interpolations": "images",
    "LatentKL": "latents",
    "LatentMap": "latents",
    "Reconstructions": "images",
    "Samples": "images",
    "Traversals": "images",
}

__all__ = [
    "BestCheckpoint",
    "Cost",
    "Interpolations",
    "LastCheckpoint",
    "LatentKL",
    "LatentMap",
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
        raise AttributeError(f"module 'vaezoo.callbacks' has no attribute {name!r}")
    return getattr(import_module(f"vaezoo.callbacks.{_PICTURES[name]}"), name)
