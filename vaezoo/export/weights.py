"""Weights as safetensors, and the JSON card that says what they are and how to load them. It knows no runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vaezoo import reading, trust
from vaezoo.errors import RunError
from vaezoo.extras import need

if TYPE_CHECKING:
    from vaezoo.models import Autoencoder

SCHEMA = 1
"""Raise it whenever an entry of the card comes to mean something else."""
SUFFIX = ".safetensors"


def card_of(weights: Path) -> Path:
    """Where the card of a file of weights lies: beside it."""
    return weights.with_suffix(".json")


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    path.write_bytes(
        need("safetensors.torch", "export").save({name: tensor.contiguous() for name, tensor in state.items()})
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of weights; RunError if it is damaged."""
    try:
        tensors: dict[str, Tensor] = need("safetensors.torch", "export").load_file(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except need("safetensors", "export").SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    return tensors


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a card as JSON."""
    path.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n")


def read_card(path: Path) -> dict[str, Any]:
    """A card; RunError if it is none."""
    card = reading.read_json(path)
    model, files = card.get("model"), card.get("files")
    if card.get("schema") != SCHEMA or not isinstance(model, dict) or not isinstance(files, dict):
        raise RunError(f"{path} is no card of this version of vaezoo; export the run again")
    if not isinstance(model.get("class"), str) or not isinstance(model.get("hyper_parameters"), dict):
        raise RunError(f"{path} names no class or no hyper_parameters; export the run again")
    reading.check_plain(model["hyper_parameters"], str(path))
    return card


def load_exported(path: Path, *, packages: Sequence[str] = trust.OWN) -> "Autoencoder":
    """The model of exported weights by the card beside them, on the CPU and in evaluation mode.

    RunError if the card is missing or of other weights, or asks for a class that is not in ``packages``.
    """
    from vaezoo.runs import make_model

    card = read_card(card_of(path))
    said = card["files"].get(path.name)
    if not isinstance(said, dict) or said.get("sha256") != sha256(path):
        raise RunError(f"{path} is not the file that {card_of(path)} is the card of; use the two of one export")
    return make_model(path, card["model"]["class"], card["model"]["hyper_parameters"], read_weights(path), packages)


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
