"""What happens beside training: pictures, checkpoints, progress and cost. They know no variant of a model."""

from vaezoo.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from vaezoo.callbacks.cost import Cost
from vaezoo.callbacks.images import Interpolations, Reconstructions, Samples, Traversals
from vaezoo.callbacks.latents import LatentKL, LatentMap
from vaezoo.callbacks.progress import ProgressBar
from vaezoo.callbacks.random_state import RandomState

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
    "Samples",
    "Traversals",
]
