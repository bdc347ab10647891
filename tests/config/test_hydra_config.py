"""Every yaml composes into something that could be trained, and says what it holds."""

import itertools
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from tests.conftest import some
from vaezoo.commands import command_line
from vaezoo.commands.assembly import made_model
from vaezoo.config import automatic, choices, hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_arguments, did_you_mean, parameters
from vaezoo.data.sources import OF_ARRAYS
from vaezoo.models import BetaVAE
from vaezoo.nn import likelihoods, networks

GROUPS = ("model", "data", "trainer", "callbacks", "logger", "experiment")
CHOICES = [f"{group}={name}" for group in GROUPS for name in hydra_config.options(group)]


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=[*overrides, "run_dir=somewhere"])
    return cfg


once = cache(composed)
"""The same, which is not to be changed."""


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_and_passes_the_check(choice: str) -> None:
    hydra_config.check(composed(choice))


KNOWN = [name for name in hydra_config.options("data") if name not in (*OF_ARRAYS, "table")]
"""Data sets whose shape is not that of a file."""


@pytest.mark.parametrize(("model", "data"), some(itertools.product(hydra_config.options("model"), KNOWN)))
def test_every_model_can_be_made_for_every_data_set(model: str, data: str) -> None:
    cfg = deepcopy(once(f"model={model}", "model.widths=[8]"))
    cfg.data = once(f"data={data}").data
    automatic.resolve(cfg)
    image_shape = list(instantiate(cfg.data).image_shape)
    made: Any = made_model(cfg.model, image_shape, classes=2)
    assert list(made.image_shape) == image_shape


@pytest.mark.parametrize(
    ("settings", "likelihood"),
    [
        (["data=digits"], "learned_gaussian"),
        (["data=digits", "data.binarize=dynamic"], "bernoulli"),
        (["data=mnist", "data.binarize=threshold"], "bernoulli"),
        (["data=sprites"], "bernoulli"),
        (["data=digits", "model.likelihood=gaussian"], "gaussian"),
        (["data=sprites", "model.likelihood=learned_gaussian"], "learned_gaussian"),
    ],
)
def test_a_likelihood_of_auto_suits_the_data(settings: list[str], likelihood: str, tmp_path: Path) -> None:
    cfg = composed(*settings)
    placed = hydra_config.with_run_dir(cfg, tmp_path)
    assert placed.model.likelihood == likelihood


def test_a_variants_yaml_holds_only_what_differs() -> None:
    shared = yaml.safe_load((hydra_config.CONFIGS / "model" / "_shared.yaml").read_text())
    for name in hydra_config.options("model"):
        own = yaml.safe_load((hydra_config.CONFIGS / "model" / f"{name}.yaml").read_text())
        assert all(own[key] != shared[key] for key in set(own) & set(shared))


def test_every_setting_of_a_model_stands_in_its_yaml() -> None:
    for name in hydra_config.options("model"):
        cfg = composed(f"model={name}")
        known = set(parameters(hydra_config._locate(cfg.model._target_, "model"))) - {"image_shape"}
        assert known == set(cfg.model) - {"_target_", "_convert_"}


def test_names_that_can_be_listed_without_torch_are_those_that_exist() -> None:
    assert set(choices.LIKELIHOODS) == set(likelihoods._CLASSES)
    for name in choices.NETWORKS:
        networks.make_networks(name, (1, 8, 8), 2, 2)


def test_a_class_that_passes_on_arguments_takes_those_of_its_parent() -> None:
    assert {"beta", "latent_dim", "likelihood"} <= set(parameters(BetaVAE))
    check_arguments(BetaVAE, {"beta": 3, "latent_dim": 2}, key="model")
    with pytest.raises(ConfigError, match=r"model\.latent_dims is not a setting here; did you mean 'latent_dim'\?"):
        check_arguments(BetaVAE, {"latent_dims": 2}, key="model")


def test_a_near_name_is_offered_and_else_all_of_them() -> None:
    assert did_you_mean("bta", ["beta", "sigma"]) == "did you mean 'beta'?"
    assert did_you_mean("xyz", ["beta", "alpha"]) == "known names: alpha, beta"


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        (["model=x", "--config-dir=a", "seed=1"], ["model=x", "seed=1", "--config-dir=a"]),
        (["--config-dir", "a", "model=x", "-m", "seed=1,2"], ["model=x", "seed=1,2", "--config-dir", "a", "-m"]),
        (["model=x"], ["model=x"]),
    ],
)
def test_options_may_be_anywhere_among_settings(words: list[str], ordered: list[str]) -> None:
    assert command_line.options_last(words) == ordered


def test_a_folder_may_have_the_name_of_another_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = composed("data=digits")
    cfg.run_dir = "digits"
    found = hydra_config.with_run_dir(cfg, Path("digits"))
    assert found.data.source == "digits"
    assert found.run_dir == str(tmp_path / "digits")
    assert found.run_dir in OmegaConf.to_yaml(found.logger)
