"""Weights as safetensors, and the JSON card that says what they are and how to load them. It knows no runs."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from vaezoo.config import reading
from vaezoo.config.errors import RunError
from vaezoo.config.extras import need

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
        raise RunError(f"{path} is not a card of this version of vaezoo; export the run again")
    if not isinstance(model.get("class"), str) or not isinstance(model.get("hyper_parameters"), dict):
        raise RunError(f"{path} has no class or no hyper_parameters; export the run again")
    reading.check_plain(model["hyper_parameters"], str(path))
    return card


def find_card(weights: Path) -> dict[str, Any]:
    """The card in the folder that names the SHA-256 of these weights; RunError if there is none."""
    digest, beside = sha256(weights), card_of(weights)
    for path in sorted(weights.parent.glob("*.json"), key=lambda path: path != beside):
        with suppress(RunError):
            if digest in hashes(card := read_card(path)):
                return card
    if beside.is_file():
        read_card(beside)  # which may say what is wrong with it
        raise RunError(f"{beside} is the card of other weights, not of {weights}; use two files of the same export")
    raise RunError(
        f"{weights} has no card: no JSON file in its folder names its SHA-256; put the card of its export there"
    )


def find_weights(path: Path, card: Mapping[str, Any]) -> Path:
    """The weights in the folder that have the SHA-256 which the card at ``path`` names; RunError if there are none."""
    wanted = hashes(card)
    expected = (path.with_suffix(SUFFIX), *(path.parent / Path(name).name for name in card["files"]))
    for weights in sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda weights: weights not in expected):
        if sha256(weights) in wanted:
            return weights
    raise RunError(
        f"{path} has no weights: no file *{SUFFIX} in its folder has the SHA-256 that it names; put those of its export"
        " there"
    )


def hashes(card: Mapping[str, Any]) -> set[str]:
    """SHA-256 of the weights that a card describes, in hexadecimal digits."""
    named = (said for name, said in card["files"].items() if name.endswith(SUFFIX) and isinstance(said, dict))
    return {str(said.get("sha256")) for said in named}


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
