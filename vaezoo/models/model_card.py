"""Weights as safetensors, and the JSON card that describes them."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from vaezoo.config import reading
from vaezoo.config.errors import RunError

SCHEMA = 1
"""Version of the card's format; increase it when the meaning of an entry changes."""
SUFFIX = ".safetensors"


def card_of(weights: Path) -> Path:
    """The path of the card of a file of weights, beside it."""
    return weights.with_suffix(".json")


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors."""
    from safetensors.torch import save

    path.write_bytes(save({name: tensor.contiguous() for name, tensor in state.items()}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file; RunError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    return tensors


def write_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write a card as JSON."""
    path.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n")


def read_card(path: Path) -> dict[str, Any]:
    """The content of a card; RunError if it is not a card of this version."""
    card = reading.read_json(path)
    model, files = card.get("model"), card.get("files")
    if card.get("schema") != SCHEMA or not isinstance(model, dict) or not isinstance(files, dict):
        raise RunError(f"{path} is not a card of this version of vaezoo; export the run again")
    if not isinstance(model.get("class"), str) or not isinstance(model.get("hyper_parameters"), dict):
        raise RunError(f"{path} has no class or no hyper_parameters; export the run again")
    reading.check_plain(model["hyper_parameters"], str(path))
    return card


def find_card(weights: Path) -> dict[str, Any]:
    """The card in the same folder with the SHA-256 of these weights; RunError if there is none."""
    digest, beside = sha256(weights), card_of(weights)
    for path in sorted(weights.parent.glob("*.json"), key=lambda path: path != beside):
        with suppress(RunError):
            if digest in hashes(card := read_card(path)):
                return card
    if beside.is_file():
        read_card(beside)  # raises if the card itself is the problem
        raise RunError(f"{beside} is the card of other weights, not of {weights}; use two files of the same export")
    raise RunError(
        f"{weights} has no card: no JSON file in its folder names its SHA-256; put the card of its export there"
    )


def find_weights(path: Path, card: Mapping[str, Any]) -> Path:
    """The weights in the folder of the card at ``path`` that have its SHA-256; RunError if there are none."""
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
    """The SHA-256 of each file of weights in a card, in hexadecimal."""
    named = (entry for name, entry in card["files"].items() if name.endswith(SUFFIX) and isinstance(entry, dict))
    return {str(entry.get("sha256")) for entry in named}


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; RunError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
