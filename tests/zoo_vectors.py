"""Inputs and results of formulas, each derived in two ways; they lie beside the clone on some machines."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import SHARED

FILE = SHARED.parent / "zoo" / "continuous_vectors.json"
DISCRETE = SHARED.parent / "zoo" / "discrete_vectors.json"


def vector(name: str) -> tuple[dict[str, Any], Any]:
    """Input of the case ``name``, with float64 tensors for arrays, and the expected value; skips without the file."""
    if not FILE.is_file():
        pytest.skip(f"needs the numbers in {FILE}, which are not part of the repository")
    found = next(entry for entry in json.loads(FILE.read_text())["vectors"] if entry["name"] == name)
    names: dict[str, Any] = {"np": np, "math": math}
    exec(found["recipe"], names)
    return {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in names.items()}, found["value"]


def discrete() -> dict[str, Tensor]:
    """Values about discrete codes by name, computed in two ways in float64; skips without the file."""
    if not DISCRETE.is_file():
        pytest.skip(f"needs {DISCRETE}, which is not part of the repository")
    return {name: torch.tensor(found["value"]) for name, found in json.loads(DISCRETE.read_text()).items()}


def close(found: Tensor, expected: Tensor) -> None:
    """AssertionError unless a result in float32 has the expected values."""
    torch.testing.assert_close(found.detach().float(), expected.float(), rtol=1e-5, atol=2e-6)


def numbers(seed: int) -> np.random.RandomState:
    """``rs(seed)`` of the recipes."""
    return np.random.RandomState(seed)
