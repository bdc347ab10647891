"""Networks of one's own take the place of the project's, and what does not fit is named."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vaezoo import Run, load
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.models import AE, VAE, ConditionalVAE, TopDownVAE

Program = Callable[..., tuple[int, str]]

SOURCE = '''
"""Networks, some of them wrong."""
import os
import torch
from torch import nn


def make(image_shape, latent_dim, features, hidden: int = 8):
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    layers = nn.Linear(pixels, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, features)
    encoder = nn.Sequential(nn.Flatten(), *layers)
    decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Dropout(), nn.Unflatten(1, image_shape))
    nn.init.constant_(decoder[0].bias, 0.5)
    return encoder, decoder


def too_few(image_shape, latent_dim, features):
    return make(image_shape, latent_dim, features - 1)


def too_small(image_shape, latent_dim, features):
    return make(image_shape, latent_dim, features)[0], nn.Linear(latent_dim, 7)


def single(image_shape, latent_dim, features):
    return nn.Flatten()


class Opaque(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def opaque(image_shape, latent_dim, features):
    encoder, decoder = make(image_shape, latent_dim, features)
    return Opaque(encoder), decoder
'''


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "ownnets.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("ownnets", None)


def made(name: str, cls: Any = VAE, **settings: Any) -> Any:
    return cls(image_shape=(2, 8, 9), latent_dim=3, network=f"ownnets:{name}", **settings)


@pytest.mark.parametrize("cls", [AE, VAE])
def test_a_model_has_the_networks_and_weights_that_were_made(cls: Any) -> None:
    model = made("make", cls, network_options={"hidden": 5}).eval()
    assert model.encoder[1].out_features == 5
    assert model.encoder[2].running_mean.abs().max() == 0  # trying the shapes changes no statistics
    assert bool((model.decoder[0].bias == 0.5).all())
    x = torch.rand(4, 2, 8, 9)
    assert model.reconstruct(x).shape == x.shape
    assert model.train().encoder.training


def test_a_richer_posterior_asks_for_more_encoder_outputs() -> None:
    assert made("make", posterior="full").encoder[3].out_features == 3 + 6


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("too_few", {}, r"must give an encoder with outputs of shape \(B, 6\), got \(B, 5\)"),
        ("too_small", {}, r"must give a decoder of codes \(B, 3\) with outputs of shape \(B, 2, 8, 9\), got \(B, 7\)"),
        ("single", {}, "must return two nn.Modules, encoder and decoder, got Flatten"),
        ("missing", {}, r"model\.network must name a function or class as package\.module:name.*'ownnets:missing'"),
        ("os", {}, r"must name a function or class that is defined in ownnets, got 'os'"),
        (
            "make",
            {"network_options": {"width": 9}},
            r"model\.network_options\.width is not a setting here",
        ),
        ("make", {"network_options": {"features": 9}}, r"model\.network_options\.features is set by the program"),
        (
            "make",
            {"widths": [9]},
            r"model\.widths=\[9\] are sizes of vaezoo's networks; give those of ownnets:make",
        ),
        (
            "opaque",
            {"cls": ConditionalVAE, "classes": 3},
            r"model\.network=ownnets:opaque must return two nn\.Sequential",
        ),
        ("make", {"cls": TopDownVAE}, r"model\.network must be one of top_down, got 'ownnets:make'"),
    ],
)
def test_what_does_not_fit_is_named(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(name, **settings)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        ("conv", {"hidden": 9}, r"model\.network_options are arguments of .*network=conv takes none"),
        ("mlp", {"hidden": 9}, r"model\.network_options\.hidden is not a setting here; known names: activation"),
        (
            "mlp",
            {"activation": "step"},
            r"options\.activation must be one of relu, tanh, elu, silu, got 'step'",
        ),
    ],
)
def test_options_without_a_function_are_refused(network: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VAE(image_shape=(1, 8, 8), network=network, network_options=options)


def test_a_run_with_it_goes_on_and_is_opened_by_those_who_trust_it(program: Program, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = ["callbacks=none", "data.limit=64", "evaluation=quick", f"run_dir={run}", "trainer.max_epochs=1"]
    code, printed = program("train", "model=vae", "model.network=ownnets:make", *short)
    assert code == 0, printed
    assert (run / "evaluation.json").is_file()
    assert Run(run).summary["network"] == "ownnets:make"
    assert load(run, packages=["vaezoo", "ownnets"]).encoder[1].out_features == 8
    sys.modules.pop("ownnets")
    for packages in (["vaezoo"], ["vaezoo", "torch"]):
        with pytest.raises(RunError, match=r"asks for 'ownnets:make' in model\.network; .*packages=\[ownnets\]"):
            load(run, packages=packages)
    assert "ownnets" not in sys.modules
    code, printed = program("train", f"resume={run}", "trainer.max_epochs=2")
    assert (code, "packages=[ownnets]" in printed) == (1, True)
    code, printed = program("train", f"resume={run}", "trainer.max_epochs=2", "packages=[ownnets]")
    assert code == 0, printed


def test_a_stranger_cannot_name_a_function_of_vaezoo(program: Program, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = ["callbacks=none", "data.limit=64", "evaluation=none", f"run_dir={run}", "trainer.max_epochs=1"]
    assert program("train", "model=vae", *short)[0] == 0
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("network: mlp", "network: vaezoo.runs.files:write_text"))
    code, printed = program("train", f"resume={run}", "trainer.max_epochs=2")
    assert (code, "asks for 'vaezoo.runs.files:write_text' in model.network" in printed) == (1, True)
