"""Sweeps under every launcher: each run in a folder of its own and on one device, and failures named at the end."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.commands import sweeps
from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError

PACKAGES = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
    "optuna": "hydra_optuna_sweeper",
    "optuna_beta_vae": "hydra_optuna_sweeper",
}
TINY = ["model.widths=[8]", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "evaluation=none"]
TINY += ["logger.tensorboard=null"]

Program = Callable[..., tuple[int, str]]


def needs(sweep: str) -> None:
    """Skip where a launcher's packages are not installed."""
    pytest.importorskip(f"hydra_plugins.{PACKAGES[sweep]}", reason=f"sweep={sweep} has packages of its own")


def lasting_variables() -> dict[str, str]:
    """The environment without what pytest sets, and what a program sets for its own threads on a busy machine."""
    changing = ("PYTEST_CURRENT_TEST", "OMP_WAIT_POLICY", "KMP_INIT_AT_FORK")
    return {name: value for name, value in os.environ.items() if name not in changing}


def test_each_run_of_a_sweep_has_a_folder_of_its_own_and_one_that_fails_ends_no_other(
    program: Program, tmp_path: Path
) -> None:
    before = lasting_variables()
    folder = tmp_path / "sweep"
    code, said = program("train", "-m", *TINY, f"run_dir={folder}", "model=ae,vae", "model.latent_dim=0,2")
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last == (
        f"error: 2 runs of the sweep in {folder} failed: 0_ae, 2_vae: model.latent_dim must be at least 1, got 0"
    )
    for name in ("1_ae", "3_vae"):
        run = Run(folder / name)
        assert run.summary["status"] == "finished"
        assert run.checkpoint("best").parent == folder / name / "checkpoints"
        assert run.config.run_dir == str(folder / name)
        assert not [path for path in (folder / name).iterdir() if path.name == name]
    assert lasting_variables() == before
    code, said = program("train", "-m", *TINY, f"run_dir={folder}", "model=ae,vae", "model.latent_dim=2")
    assert code == 0, said  # what failed before is forgotten


def test_a_sweep_without_a_folder_makes_one(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = program("train", "--multirun", *TINY, "model=ae,vae")
    assert code == 0, said
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("_sweep")
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"0_ae", "1_vae"}


@pytest.mark.parametrize("word", ["run_dir={}", "++run_dir={}", "+hydra.sweep.dir='{}'"])
def test_a_failed_run_is_told_however_its_folder_is_named(word: str, program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    others = folder / "notes" / sweeps.ERROR
    others.parent.mkdir(parents=True)
    others.write_text("not a run's")
    words = [*TINY, word.format(folder), "hydra.sweep.subdir=a/${hydra:job.num}", "seed=-1,-2"]
    code, said = program("train", "-m", *words)
    assert (code, f"2 runs of the sweep in {folder} failed: a/0: seed must be from 0" in said) == (1, True)
    assert others.read_text() == "not a run's"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("hydra.sweep.dir=multi/${now:%Y}", "the folder of a sweep must be a path without ${...}, got multi/${now:%Y}"),
        ("+run_dir='${seed}'", "the folder of a sweep must be a path without ${...}, got '${seed}'"),
        ("hydra.sweep.subdir='../${hydra:job.num}'", "hydra.sweep.subdir must be a path below the sweep's folder"),
        ("++hydra.sweep.subdir=/elsewhere", "hydra.sweep.subdir must be a path below the sweep's folder run_dir="),
    ],
)
def test_a_sweep_whose_failures_would_not_be_found_is_refused(word: str, sentence: str, program: Program) -> None:
    code, said = program("train", "-m", "seed=-1", word)
    assert (code, sentence in said, said.count("\n")) == (1, True, 1)


def test_a_run_of_a_sweep_on_several_devices_is_refused_where_lightning_would_start_them(
    program: Program, tmp_path: Path
) -> None:
    cpu = "trainer.accelerator=cpu"
    code, said = program("train", "-m", *TINY, cpu, f"run_dir={tmp_path}", "trainer.devices=2,'2',auto,1", "seed=0")
    assert code == 1
    sentence = "a run of a sweep has one device unless SLURM starts its processes, got 2; set trainer.devices=1, or use"
    assert f"2 runs of the sweep in {tmp_path} failed: 0_vae, 1_vae: {sentence}" in said.strip().splitlines()[-1]
    assert not (tmp_path / "0_vae" / "config.yaml").exists()
    assert [Run(tmp_path / name).summary["status"] for name in ("2_vae", "3_vae")] == ["finished", "finished"]


def test_several_nodes_are_refused_too(program: Program, tmp_path: Path) -> None:
    cpu = ["trainer.accelerator=cpu", "trainer.num_nodes=2"]
    code, said = program("train", "-m", *TINY, *cpu, f"run_dir={tmp_path}", "seed=0")
    assert (code, "a run of a sweep has one device" in said) == (1, True)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_ranks_that_would_each_run_the_whole_sweep_are_refused(
    name: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    code, said = program("train", "-m", "seed=0,1")
    assert (code, said.count("\n")) == (1, 1)
    assert "-m starts the runs of a sweep from one process, and this is one of 2" in said


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("sweep=joblib", 'hydra/launcher=joblib needs packages that are not installed: pip install -e ".[sweep]"'),
        ("hydra/launcher=ray", 'hydra/launcher=ray needs packages that are not installed: pip install -e ".[ray]"'),
        ("sweep=submitit_slurm", 'submitit_slurm needs packages that are not installed: pip install -e ".[slurm]"'),
        ("sweep=optuna", 'hydra/sweeper=optuna needs packages that are not installed: pip install -e ".[sweep]"'),
        ("sweep=optna", "there is no sweep=optna; set sweep= to one of joblib, optuna"),
    ],
)
def test_a_launcher_whose_package_is_missing_names_the_extra(word: str, sentence: str) -> None:
    bare = "import hydra_plugins; hydra_plugins.__path__ = []\nfrom vaezoo.commands.command_line import main; main()"
    if find_spec("hydra_plugins") is None:
        bare = "from vaezoo.commands.command_line import main; main()"
    command = [sys.executable, "-c", bare, "train", "-m", word, "seed=0,1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("sweep", hydra_config.options("sweep"))
def test_every_yaml_of_a_sweep_composes_and_passes_the_check(sweep: str) -> None:
    needs(sweep)
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=[f"sweep={sweep}", "run_dir=somewhere"], return_hydra_config=True)
    target = cfg.hydra.sweeper._target_ if "optuna" in sweep else cfg.hydra.launcher._target_
    assert PACKAGES[sweep] in target
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    hydra_config.check(cfg)


def test_jobs_of_joblib_share_the_threads_out_and_one_that_fails_ends_no_other(tmp_path: Path) -> None:
    needs("joblib")
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    words = [
        "sweep=joblib",
        "hydra.launcher.n_jobs=2",
        *TINY,
        f"run_dir={tmp_path}",
        "model.latent_dim=2,0",
    ]
    code, said = sweep(*words, environment=environment)
    assert code == 1
    assert "1 run of the sweep" in said.strip().splitlines()[-1]
    share = max(1, (os.cpu_count() or 1) // 2)
    assert Run(tmp_path / "0_vae").summary["environment"]["threads"] == share


@pytest.mark.nightly
def test_runs_of_submitit_local_are_processes_of_their_own(tmp_path: Path) -> None:
    needs("submitit_local")
    code, said = sweep("sweep=submitit_local", *TINY, f"run_dir={tmp_path}", "seed=3,-1")
    assert code == 1
    assert "1_vae: seed must be from 0" in said.strip().splitlines()[-1]
    assert Run(tmp_path / "0_vae").summary["seed"] == 3
    assert list((tmp_path / ".submitit").rglob("*_log.out"))


@pytest.mark.nightly
def test_runs_of_ray_are_processes_of_their_own(tmp_path: Path) -> None:
    needs("ray")
    code, said = sweep("sweep=ray", *TINY, f"run_dir={tmp_path}", "seed=3,-1")
    assert code == 1
    assert "1_vae: seed must be from 0" in said.strip().splitlines()[-1]
    assert Run(tmp_path / "0_vae").summary["seed"] == 3
    assert Run(tmp_path / "0_vae").summary["environment"]["threads"] == 1


def test_optuna_finds_the_settings_whose_run_came_to_the_best_number(program: Program, tmp_path: Path) -> None:
    needs("optuna")
    search = ["sweep=optuna_beta_vae", "hydra.sweeper.n_trials=3", "model.latent_dim=choice(0,2)"]
    study = ["hydra.sweeper.storage=sqlite:///" + str(tmp_path / "study.db")]
    code, said = program(
        "train", "-m", *TINY, *search, *study, f"run_dir={tmp_path / 'a'}", "hydra.sweeper.sampler.seed=1"
    )
    results = OmegaConf.load(tmp_path / "a" / "optimization_results.yaml")
    finished = [Run(path.parent) for path in sorted((tmp_path / "a").glob("*/summary.json"))]
    best = max(finished, key=lambda run: run.summary["val"]["elbo"])
    assert results.best_value == best.summary["val"]["elbo"]
    assert results.best_params["model.beta"] == pytest.approx(best.config.model.beta)
    failed = 3 - len(finished)
    assert 0 < failed < 3
    assert (code, f"{failed} run" in said.strip().splitlines()[-1]) == (1, True)
    # The study lies in a file: the next sweep goes on with it.
    words = ["hydra.sweeper.n_trials=1", "model.latent_dim=2", f"run_dir={tmp_path / 'b'}", "model.optimizer.lr=1e-9"]
    program("train", "-m", *TINY, "sweep=optuna_beta_vae", *study, *words)
    assert OmegaConf.load(tmp_path / "b" / "optimization_results.yaml") == results


def test_a_number_that_a_model_lacks_is_named_with_those_that_it_has(program: Program, tmp_path: Path) -> None:
    code, said = program("train", "-m", *TINY, "model=ae", "optimized_metric=val/elbo", f"run_dir={tmp_path}")
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert "0_ae: optimized_metric=val/elbo: AE has no such metric; choose one of test/loss, test/mse" in last
    summary: Any = json.loads((tmp_path / "0_ae" / "summary.json").read_text())
    assert sweeps.optimized(summary, "val/mse") == summary["val"]["mse"]
    assert sweeps.optimized(summary, None) is None
    with pytest.raises(ConfigError, match="optimized_metric=test/mse: AE has no such metric"):
        sweeps.optimized({**summary, "test": {"mse": None}}, "test/mse")
    code, said = program("train", "-m", *TINY, "optimized_metric=elbo", f"run_dir={tmp_path / 'b'}")
    assert "optimized_metric must be a name such as val/elbo, got 'elbo'" in said


def sweep(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """A multirun in a process of its own: its exit code, and what it said."""
    command = [sys.executable, "train.py", "-m", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    return done.returncode, done.stdout + done.stderr
