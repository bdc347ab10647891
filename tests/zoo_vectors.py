"""Inputs and results of formulas, each derived in two ways; they lie beside the clone on some machines."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import SHARED

FILE = SHARED.parent / "zoo" / "continuous_vectors.json"


def vector(name: str) -> tuple[dict[str, Any], Any]:
    """Input of the case ``name``, with float64 tensors for arrays, and the expected value; skips without the file."""
    if not FILE.is_file():
        pytest.skip(f"needs the numbers in {FILE}, which are not part of the repository")
    found = next(entry for entry in json.loads(FILE.read_text())["vectors"] if entry["name"] == name)
    names: dict[str, Any] = {"np": np, "math": math}
    exec(found["recipe"], names)
    return {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in names.items()}, found["value"]
