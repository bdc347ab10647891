"""Known values for the tests of parts of models."""

import pytest
from torch import Tensor

from tests import zoo_vectors


@pytest.fixture(scope="session")
def known() -> dict[str, Tensor]:
    """Values about discrete codes by name."""
    return zoo_vectors.discrete()
