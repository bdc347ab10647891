"""A page with small models of several kinds that were never trained, which the tests of the explorer share."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import composed, small
from vaezoo.commands.assembly import made_model
from vaezoo.config import automatic
from vaezoo.models import Autoencoder
from vaezoo.models.loading import Run

RUNS = {
    "point": ("ae", "model.latent_dim=2", "model.widths=[16]"),
    "cloud": ("vae", "model.latent_dim=3", "model.widths=[16]"),
    "priced": ("beta_vae", "model.latent_dim=3", "model.widths=[16]"),
    "grid": ("vqvae", "model.widths=[8,8]", "model.network=conv"),
}
"""Runs of the page by name: model and settings."""


def untrained(variant: str, *overrides: str) -> Autoencoder:
    """A small model of the digits, whose weights are none of those that it was made with."""
    cfg = OmegaConf.create(OmegaConf.to_container(composed(f"model={variant}", *small(variant), *overrides)))
    automatic.resolve(cfg)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = made_model(cfg.model, [1, 16, 16], classes=10)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model.eval()


def store(path: Path, model: Autoencoder, **summary: Any) -> Path:
    """The folder of a finished run with this model, on the digits."""
    data = OmegaConf.to_container(composed("data.limit=128").data, resolve=True)
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text(OmegaConf.to_yaml({"data": data}))
    described = {"name": "digits", "image_shape": [1, 16, 16], "binarize": "none"}
    said = {"status": "finished", "objective": model.formula(), "data": described, "test": {"psnr": 17.25}, **summary}
    (path / "summary.json").write_text(json.dumps(said))
    cls = f"{type(model).__module__}.{type(model).__qualname__}"
    content = {"model_class": cls, "hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(content, path / "checkpoints" / "best.ckpt")
    return path


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by name."""
    folder = tmp_path_factory.mktemp("explored")
    return {name: store(folder / name, untrained(*words)) for name, words in RUNS.items()}


@pytest.fixture(scope="session")
def page(stored: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all of them."""
    pytest.importorskip("onnxruntime", reason='needs pip install -e ".[export]"')
    from vaezoo.explorer import write_page

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("page") / "explorer.html"
    assert write_page(stored, out) == []
    return out


@pytest.fixture(scope="session")
def models(stored: dict[str, Path]) -> dict[str, Autoencoder]:
    """The models by name."""
    return {name: Run(path).model() for name, path in stored.items()}
