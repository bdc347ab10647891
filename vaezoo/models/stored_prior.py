"""The prior over indices in a run folder: what is stored, and checked before it is used."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import RunError
from vaezoo.config.validation import check_arguments
from vaezoo.models.base import Autoencoder
from vaezoo.models.model_card import read_weights, sha256
from vaezoo.nn.index_layout import IndexLayout
from vaezoo.nn.priors.indices import IndexPrior, IndexTransformer
from vaezoo.runs.folder import RunFolder
from vaezoo.training.index_prior import PriorSettings, no_index_prior


def packed(prior: IndexPrior) -> bytes:
    """The weights of a prior as a safetensors file."""
    from safetensors.torch import save

    return save({name: tensor.cpu().contiguous() for name, tensor in prior.network.state_dict().items()})


def described(layout: IndexLayout) -> dict[str, list[Any]]:
    """What prior.json says of the indices: their shape, that of each grid if there are several, and the codebooks."""
    grids = [list(grid.shape) for grid in layout.grids.values()]
    several = {"index_grids": grids} if len(grids) > 1 else {}
    return {"index_shape": list(layout.shape), **several, "codebook_sizes": list(layout.sizes)}


def read(run: RunFolder, model: Autoencoder, checkpoint: str, step: int | None) -> IndexPrior | None:
    """The prior over indices of a run that was fitted to this model, as it was saved in ``checkpoint`` after ``step``.

    None if there is none, or if it is that of other weights. RunError if it is damaged or does not fit the model.
    """
    card = run.index_prior
    if card is None or (card.get("checkpoint"), card.get("step")) != (checkpoint, step):
        return None
    try:
        return _read(run, model, card)
    except (RunError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"{run.path}/prior/prior.json cannot be used: {reason}; run vaezoo prior {run.path} again"
        ) from error


def _read(run: RunFolder, model: Autoencoder, card: Mapping[str, Any]) -> IndexPrior:
    layout = model.index_layout
    if layout is None or any(card.get(name) != value for name, value in described(layout).items()):
        raise ValueError(f"it is for {card['index_shape']} indices of {card['codebook_sizes']} codes")
    if reason := no_index_prior(layout):
        raise ValueError(reason)
    name, chosen = str(card["file"]), dict(card["settings"])
    path = run.path / "prior" / name
    if path.name != name or sha256(path) != card["sha256"]:
        raise ValueError("its weights are not those that it names")
    check_arguments(PriorSettings, chosen, key="settings")
    settings = PriorSettings(**chosen)
    with torch.device("meta"):  # a few bytes of settings can ask for terabytes
        network = IndexTransformer(layout, width=settings.width, layers=settings.layers)
    network.load_state_dict(_sound(read_weights(path)), assign=True)
    return IndexPrior(network)


def _sound(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights; ValueError unless they are finite numbers in single precision."""
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"its weights are not finite numbers in single precision ({name})")
    return weights
