"""Small finished runs that the tests of the page share."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from vaezoo.comparison.report import drawing, strips

RUNS = {
    "ae-0": ["model=ae", "seed=0"],
    "ae-1": ["model=ae", "seed=1"],
    "beta-0": ["model=beta_vae", "seed=0"],
    "beta-1": ["model=beta_vae", "seed=1"],
    "plane-0": ["model=vae", "model.latent_dim=2", "seed=0"],
}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts of reports that a test makes for itself have few pixels, which is twice as fast."""
    for module in (drawing, strips):
        monkeypatch.setattr(module, "PRINT_DPI", 60)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: an AE and a beta-VAE on two seeds, a VAE with two latent dimensions on one."""
    folder = tmp_path_factory.mktemp("runs")
    program = (
        "import sys, torch; torch.set_num_threads(1); from vaezoo.commands import command_line\n"
        "for line in sys.stdin:\n    sys.argv = ['vaezoo', 'train', *line.split()]; command_line.main()\n"
    )
    small = "model.widths=[16] model.likelihood=bernoulli trainer.max_epochs=3 callbacks=none data.limit=128"
    small += " trainer.enable_progress_bar=false"
    lines = [f"run_dir={folder / name} {small} {' '.join(extra)}" for name, extra in RUNS.items()]
    done = subprocess.run(
        [sys.executable, "-c", program], input="\n".join(lines), text=True, capture_output=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name in RUNS:
        _evaluate(folder / name)
    return folder


def _evaluate(path: Path) -> None:
    """An evaluation.json as evaluation writes it, with numbers of the run's own test."""
    summary = json.loads((path / "summary.json").read_text())
    size = {"n": 300}
    metrics: dict[str, Any] = {name: {"value": value, **size} for name, value in summary["test"].items()}
    metrics.setdefault("elbo", {"value": None, "reason": "this model has no posterior"})
    metrics |= {
        "prior_fd_classifier": {"value": 9.0 + summary["seed"], "n": 1000},
        "mixture_fd_classifier": {"value": 5.0 + summary["seed"], "n": 1000},
        "floor_fd_classifier": {"value": 1.5},
    }
    metrics["prior_fd_inception"] = {"value": None, "reason": "no Inception weights on this machine"}
    metrics["flops_per_image"] = {"value": 2e6}
    references = {"pca": {"metrics": {"psnr": {"value": 19.5, **size}}}}
    content = {"schema": 1, "settings": {"seed": 0, "images": 300}, "metrics": metrics, "references": references}
    (path / "evaluation.json").write_text(json.dumps(content | {"vectors": {}, "checkpoint": "best"}))


@pytest.fixture(scope="session")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all of them, in its folder."""
    from vaezoo.comparison.report import build

    out = tmp_path_factory.mktemp("report")
    assert not build([runs], out)
    return out
