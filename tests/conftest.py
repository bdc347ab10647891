"""What all tests share: quiet determinism, the zoo's yamls, and where real data lies if it is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from vaezoo import config
from vaezoo.models import Autoencoder

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
MODELS = config.options("model")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``variant`` runs for every yaml of the zoo."""
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", MODELS)


@pytest.fixture(autouse=True)
def deterministic() -> None:
    """One thread: two on a busy machine can be ten times slower than one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def make_model() -> Callable[..., Autoencoder]:
    """A model from its yaml: make_model("vae", "model.latent_dim=2", image_shape=[1, 8, 8])."""

    def make(variant: str, *overrides: str, image_shape: list[int] | None = None) -> Autoencoder:
        with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
            cfg = compose("train", overrides=[f"model={variant}", *overrides], return_hydra_config=True)
        model: Any = instantiate(cfg.model, image_shape=image_shape or [1, 16, 16])
        return model

    return make


@pytest.fixture
def real_data() -> Path:
    """Folder of the real images that lie beside the clone on some machines."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real images in {SHARED}, which are not part of the repository")
    return SHARED
