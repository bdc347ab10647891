"""What all tests share: quiet determinism, the zoo's yamls, and where real data lies if it is there."""

import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from tests.kills import Nursery
from vaezoo import Run
from vaezoo.commands import command_line
from vaezoo.commands.assembly import made_model
from vaezoo.config import automatic, hydra_config
from vaezoo.distributed import threads
from vaezoo.models import Autoencoder

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
MODELS = hydra_config.options("model")


def _has_critic(name: str) -> bool:
    """Whether the yaml of a model, or one that it extends, sets the learning rate of a critic."""
    settings = yaml.safe_load((hydra_config.CONFIGS / f"model/{name}.yaml").read_text())
    listed = [options for part, options in settings.items() if part.endswith("_options") and options]
    return any("lr" in options for options in listed) or any(
        _has_critic(parent) for parent in settings.get("defaults", ()) if parent != "_self_"
    )


WITH_CRITICS = [name for name in MODELS if _has_critic(name)]
CLASSES = 10
"""Number of labels of a model that is made without data; the digits have as many."""
SMALL = {
    "model.discriminator_options.width": "4",
    "model.grid_width": "8",
    "model.discriminator_options.start": "2",
    "model.penalty_options.widths": "[16]",
    "model.prior_options.components": "7",
    "model.quantizer_options.size": "8",
}
"""Settings of parts of models that are too large for tests, for those that have them."""
SMALL_PARTS = {"model.quantizer=vq": "+model.quantizer_options.size=8"}
"""The same by choice of a part whose options are not listed."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for ``variant`` runs for every yaml of the zoo, unless it has a list of its own."""
    listed = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "variant" in metafunc.fixturenames and not any("variant" in names for names in listed):
        metafunc.parametrize("variant", MODELS)


def some(cases: Iterable[Any], first: int = 0, of: int = 4) -> list[Any]:
    """All cases of a test, of which the ordinary run has one in ``of``, and the nightly one the others too."""
    nightly = pytest.mark.nightly
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=nightly if (place - first) % of else ())
        for place, case in enumerate(cases)
    ]


def some_models(first: int) -> list[Any]:
    """Every yaml of the zoo, seven of eight nightly; tests with another ``first``, 0 to 7, have others."""
    return some(MODELS, first, of=8)


def in_turn(*axes: Iterable[Any]) -> list[Any]:
    """Every variant with every combination of options, most of them nightly.

    In the ordinary run, each variant has one option of the last axis for each combination of the others, and its
    neighbours have others.
    """
    choices = [list(enumerate(axis)) for axis in axes]
    return [
        pytest.param(
            variant,
            *(option for _, option in chosen),
            marks=pytest.mark.nightly if (number + sum(place for place, _ in chosen)) % len(choices[-1]) else (),
        )
        for number, variant in enumerate(MODELS)
        for chosen in product(*choices)
    ]


@pytest.fixture(autouse=True, scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Feature classifiers of the tests are kept for the tests alone."""
    before = os.environ.get("VAEZOO_CACHE")
    os.environ["VAEZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("VAEZOO_CACHE")
    if before is not None:
        os.environ["VAEZOO_CACHE"] = before


@pytest.fixture(autouse=True, scope="session")
def one_look_at_other_programs() -> Iterator[None]:
    """Every training asks whether the machine is busy, which takes a quarter of a second where it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "PROBES", 1)
        yield


@pytest.fixture(autouse=True)
def deterministic() -> None:
    """One thread: two on a busy machine can be ten times slower than one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Handlers that a training adds write to the captured output of its test, which is closed afterwards."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler in before]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where real processes are started, to be killed or sent signals; they are the last test's to end."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nothing listens to, another one each time."""

    def port() -> int:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            return int(listening.getsockname()[1])

    return port


@cache
def composed(*words: str) -> DictConfig:
    """The config of a training; composing takes longer than many a test. Not to be changed."""
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        return compose("train", overrides=list(words), return_hydra_config=True)


@cache
def small(variant: str) -> tuple[str, ...]:
    """Overrides that make a model of the zoo small enough for tests."""
    cfg = composed(f"model={variant}")
    listed = [f"{key}={value}" for key, value in SMALL.items() if OmegaConf.select(cfg, key) is not None]
    chosen = [
        words for part, words in SMALL_PARTS.items() if OmegaConf.select(cfg, part.split("=")[0]) == part.split("=")[1]
    ]
    return (*listed, *chosen)


@pytest.fixture
def make_model() -> Callable[..., Autoencoder]:
    """A model from its yaml: make_model("vae", "model.latent_dim=2", image_shape=[1, 8, 8])."""

    def make(variant: str, *overrides: str, image_shape: list[int] | None = None) -> Autoencoder:
        cfg = deepcopy(composed(f"model={variant}", *small(variant), *overrides))
        automatic.resolve(cfg)
        model: Any = made_model(cfg.model, image_shape or [1, 16, 16], classes=CLASSES)
        return model

    return make


@pytest.fixture
def real_data() -> Path:
    """Folder of the real images that lie beside the clone on some machines."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real images in {SHARED}, which are not part of the repository")
    return SHARED


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The command `vaezoo ...` in this process: its exit code, and what it printed on both streams."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vaezoo", *arguments])
        code: Any = 0
        try:
            command_line.main()
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return int(code or 0), printed.out + printed.err

    return run


@pytest.fixture
def train(program: Callable[..., tuple[int, str]], tmp_path: Path) -> Callable[..., Run]:
    """A short training on the digits with small networks and no pictures, which must succeed: its run folder."""

    def run(name: str, *overrides: str) -> Run:
        small = ["model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128", "evaluation=none"]
        code, printed = program("train", f"run_dir='{tmp_path / name}'", *small, *overrides)
        assert code == 0, printed
        return Run(tmp_path / name)

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs the browser: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
