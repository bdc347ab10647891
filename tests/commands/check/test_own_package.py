"""A model in a package of one's own is trained, benchmarked, compared, listed and checked like those of the zoo."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, some
from vaezoo import Run
from vaezoo.commands.check import CLAUSES

NOISY = '''
"""A VAE whose posterior is a Laplace distribution, with noise of its own."""

from typing import Any

import torch
from torch import Tensor

from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.models.vae import VAE
from vaezoo.training.terms import Terms


class Noisy(VAE):
    """Reconstructs from codes with noise of its own and dropout in it."""

    def __init__(self, *, spread: float = 0.5, **shared: Any) -> None:
        super().__init__(**shared)
        self.spread = spread

    def loss_terms(self, x: Tensor) -> Terms:
        posterior = self.posterior(x)
        uniform = torch.rand_like(posterior.mean) - 0.5
        noise = torch.distributions.Laplace(torch.zeros_like(uniform), self.spread).rsample()
        code = torch.nn.functional.dropout(posterior.mean + torch.exp(0.5 * posterior.logvar) * (uniform + noise), 0.1)
        return Terms(self.nll(x, code), kl=gaussian_kl(*posterior), code=posterior.mean)
'''

BROKEN = '''
"""Models that break one clause of the contract each."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.models.ae import AE
from vaezoo.models.vae import VAE
from vaezoo.training.terms import Terms


class OfTheBatch(AE):
    def objective(self, terms: Terms, weights: Any) -> Tensor:
        return terms.recon * len(terms.recon)


class Averaged(AE):
    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        terms.recon = terms.recon / self.pixels
        return terms


class Beyond(AE):
    def decode(self, code: Tensor) -> Tensor:
        return 2 * super().decode(code) - 1


class Objects(AE):
    def __init__(self, *, net: Any = None, **shared: Any) -> None:
        net = nn.Linear(2, 2)
        super().__init__(**shared)
        self.save_hyperparameters({"net": net})


class Reduced(AE):
    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        return Terms(terms.recon.mean(), terms.kl)


class Unused(AE):
    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        self.spare = nn.Linear(2, 2)


class Numpys(VAE):
    def loss_terms(self, x: Tensor) -> Terms:
        posterior = self.posterior(x)
        noise = torch.from_numpy(np.random.default_rng().normal(size=posterior.mean.shape)).float()
        return Terms(self.nll(x, posterior.mean + noise), gaussian_kl(*posterior))


class Global(VAE):
    @torch.no_grad()
    def sample(self, count: int, generator: Any = None) -> Tensor:
        return self.decode(torch.randn(count, self.latent_dim))


class Silent(VAE):
    def formula(self) -> str:
        return ""


class Half(AE):
    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        return Terms(terms.recon.bfloat16(), terms.kl)


class Failing(AE):
    def encode(self, x: Tensor) -> Tensor:
        raise KeyError("no code")
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package and with configs that name its models."""
    place = tmp_path_factory.mktemp("own")
    (place / "ownpkg").mkdir()
    (place / "ownpkg" / "__init__.py").write_text(NOISY)
    (place / "ownpkg" / "broken.py").write_text(BROKEN)
    (place / "conf" / "model").mkdir(parents=True)
    write_yaml(place, "noisy", "ownpkg.Noisy", "spread: 0.2")
    for name in BREAKS:
        write_yaml(place, name.lower(), f"ownpkg.broken.{name}")
    return place


def write_yaml(place: Path, name: str, target: str, *lines: str) -> None:
    content = ["defaults: [_shared, _self_]", f"_target_: {target}", *lines]
    (place / "conf" / "model" / f"{name}.yaml").write_text("\n".join(content) + "\n")


def vaezoo(place: Path, *words: str, importable: bool = True) -> tuple[int, str]:
    """The command in a process of its own, started in the folder, with a relative folder of configs."""
    places = os.pathsep.join([str(ROOT), *([str(place)] if importable else [])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "vaezoo", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=280,
    )
    return done.returncode, done.stdout + done.stderr


SMALL = ["model.widths=[8]", "trainer.max_epochs=1", "data.limit=64", "callbacks=none", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def benchmark(place: Path) -> tuple[Path, str]:
    grid = ["models=[noisy,vae]", "seeds=[0]", "out=bench", "evaluate.quick=true", "compare.pdf=false", *SMALL]
    code, printed = vaezoo(place, "benchmark", "--config-dir=conf", *grid)
    logs = "".join(path.read_text() for path in place.glob("bench/**/benchmark.log"))
    assert code == 0, printed + logs
    return place / "bench", printed


def test_it_trains(place: Path) -> None:
    code, printed = vaezoo(place, "train", "--config-dir=conf", "model=noisy", "run_dir=run", "evaluation=none", *SMALL)
    assert code == 0, printed
    assert Run(place / "run").config.model.spread == 0.2


def test_it_is_benchmarked_with_the_folder_as_an_absolute_path(benchmark: tuple[Path, str]) -> None:
    folder, printed = benchmark
    for name in ("noisy-seed_0", "vae-seed_0"):
        assert Run(folder / name).summary["status"] == "finished"
        assert Run(folder / name).evaluation is not None
    log = (folder / "noisy-seed_0" / "benchmark.log").read_text()
    assert f"--config-dir={folder.parent / 'conf'}" in log
    assert "packages=[ownpkg]" in log
    assert "packages=" not in (folder / "vae-seed_0" / "benchmark.log").read_text()
    assert "2 of 2 runs are compared" in printed
    report = (folder / "report" / "report.html").read_text()
    assert "Noisy" in report
    assert "is missing from the pictures" not in report


@pytest.mark.nightly
def test_its_runs_are_compared(place: Path, benchmark: tuple[Path, str]) -> None:
    code, printed = vaezoo(place, "compare", "bench", "out=again", "packages=[ownpkg]", "--config-dir", "conf")
    assert code == 0, printed
    assert "is missing from the pictures" not in (place / "again" / "report.html").read_text()


def test_it_is_listed(place: Path) -> None:
    code, printed = vaezoo(place, "list", "--config-dir=conf", "packages=[ownpkg]")
    assert code == 0, printed
    models = printed.splitlines()[0].split()
    assert {"noisy", "vae"} <= set(models)
    assert "noisy" not in vaezoo(place, "list")[1]


@pytest.mark.nightly
def test_its_line_in_the_table_of_models_is_its_own(place: Path) -> None:
    code, printed = vaezoo(place, "list", "models", "format=markdown", "--config-dir=conf", "packages=[ownpkg]")
    assert code == 0, printed
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    noisy = next(row for row in rows if row[0] == "`noisy`")
    assert noisy[1:3] == ["Reconstructs from codes with noise of its own and dropout in it", ""]
    assert "`vqvae`" in printed


def test_it_is_checked_and_passes_with_noise_of_its_own(
    place: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(place)
    code, printed = program("check", "model=noisy", "--config-dir=conf", "packages=[ownpkg]")
    assert code == 0, printed
    assert f"{len(CLAUSES)} of {len(CLAUSES)} clauses are satisfied" in printed
    assert "fails" not in printed


BREAKS = {
    "OfTheBatch": "objective depends on the batch: it is ",
    "Averaged": "times as much instead of about 4 times; sum over pixels and channels, without a mean",
    "Beyond": "but they must be in [0, 1]; the likelihood's mean turns outputs into pixels",
    "Objects": "the argument net is kept as a Linear, which checkpoints cannot store",
    "Reduced": "recon is [] for 5 images, but must be (B,)",
    "Unused": "the parameter spare.weight gets no gradient",
    "Numpys": "for the same torch.manual_seed; draw noise only with torch",
    "Global": "sample draws from torch's own generator",
    "Silent": "formula returns ''; return what objective computes, in words",
    "Half": "recon is torch.bfloat16 under autocast",
    "Failing": "KeyError: 'no code'",
}


@pytest.mark.parametrize(
    ("name", "said"),
    some(BREAKS.items(), of=12),
)
def test_a_broken_model_fails_its_clause_in_words(
    name: str, said: str, place: Path, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr("vaezoo.commands.check.clauses.STEPS", 20)
    code, printed = program("check", f"model={name.lower()}", f"--config-dir={place / 'conf'}")
    assert code == 1
    assert said in printed
    assert "Traceback" not in printed
    lines = printed.splitlines()
    assert lines[lines.index(next(line for line in lines if said in line)) - 1].startswith("fails ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check"], "usage: vaezoo check"),
        (["check", "data=mnist"], "vaezoo check needs one model=NAME"),
        (["check", "model=vae", "data=mnist"], "takes only settings of model., got data=mnist"),
        (["check", "model=nosuch"], "there is no model=nosuch"),
        (["check", "model=vae", "model.lateny_dim=3"], "model.lateny_dim is not a setting; did you mean 'latent_dim'?"),
        (["check", "model=vae", "--config-dir=nowhere"], "--config-dir must be a folder that contains configs"),
        (["list", "--config-dir=nowhere"], "--config-dir must be a folder that contains configs"),
        (["list", "packages=[nosuchpkg]"], "packages names nosuchpkg, which cannot be imported; install it"),
        (
            ["list", "everything"],
            "vaezoo list takes only models, --config-dir=FOLDER and packages=[NAME], got everything",
        ),
        (["list", "models", "format=html"], "vaezoo list models takes only format=markdown, got format=html"),
        (
            ["benchmark", "--config-dir=nowhere", "models=[vae]", "out=x"],
            "--config-dir must be a folder that contains configs",
        ),
        (["compare", "run", "out=x", "--config-dir="], "--config-dir must be a folder that contains configs"),
        (["compare", "run", "out=x", "packages=[nosuchpkg]"], "packages names nosuchpkg, which cannot be imported"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str, program: Any) -> None:
    code, printed = program(*words)
    assert code != 0
    assert said in printed
    assert "Traceback" not in printed


def test_a_package_that_cannot_be_imported_is_named(place: Path) -> None:
    code, printed = vaezoo(place, "check", "model=noisy", "--config-dir=conf", importable=False)
    assert code == 1
    assert "model._target_ must be an importable class, got 'ownpkg.Noisy'" in printed


def test_a_benchmark_keeps_its_plan(benchmark: tuple[Path, str]) -> None:
    plan = json.loads((benchmark[0] / "benchmark.json").read_text())
    assert plan["runs"]["noisy-seed_0"]["model"]["_target_"] == "ownpkg.Noisy"
