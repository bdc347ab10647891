"""Sweeps and runs on a real SLURM of two nodes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.config import hydra_config

TINY = ["model=ae", "model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128"]
TINY += ["evaluation=none", "logger.tensorboard=null", "trainer.accelerator=cpu"]
HERE = 'hydra.launcher.setup=["export MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1"]'

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="sweep=submitit_slurm has packages of its own")


def test_a_run_of_a_sweep_on_two_nodes_is_one_run_with_the_numbers_of_one_process(
    slurm: dict[str, str], program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    several_as_one(1, 2, ["seed=3"], slurm, program, tmp_path)


@pytest.mark.nightly
def test_a_run_of_a_sweep_on_two_devices_of_a_node_is_one_run_with_the_numbers_of_one_process(
    slurm: dict[str, str], program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    several_as_one(2, 1, ["seed=3,4"], slurm, program, tmp_path)
    assert Run(tmp_path / "sweep" / "1_ae").summary["status"] == "finished"


@pytest.mark.nightly
def test_each_run_of_a_sweep_is_a_job_and_one_that_fails_ends_no_other(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["sweep=submitit_slurm", "hydra.launcher.partition=debug", HERE, f"run_dir={tmp_path}", "seed=1,-1"]
    done = sweep(*TINY, *words, environment=slurm)
    assert done.returncode == 1
    assert "1 run of the sweep" in done.stderr
    assert "1_ae: seed must be from 0" in done.stderr.strip().splitlines()[-1]
    assert Run(tmp_path / "0_ae").summary["seed"] == 1
    assert list((tmp_path / ".submitit").rglob("*_0_log.out"))


@pytest.mark.nightly
def test_several_devices_need_as_many_tasks(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["sweep=submitit_slurm", "trainer.devices=2", HERE, f"run_dir={tmp_path}", "seed=1"]
    done = sweep(*TINY, *words, environment=slurm)
    assert done.returncode == 1
    assert "hydra.launcher.tasks_per_node=2" in done.stderr.strip().splitlines()[-1]


@pytest.mark.nightly
def test_a_run_of_a_sweep_that_meets_its_time_limit_is_requeued_and_goes_on(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    if "auto:" not in (hydra_config.CONFIGS / "train.yaml").read_text():
        pytest.skip("needs resume=auto")
    long = [word for word in TINY if not word.startswith(("trainer.max_epochs", "callbacks"))]
    long += ["trainer.max_epochs=3000", "callbacks.samples=null", HERE]
    words = ["sweep=submitit_slurm", "hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=30"]
    done = sweep(*long, *words, f"run_dir={tmp_path}", environment=slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run(tmp_path / "0_ae")
    assert (run.summary["status"], run.summary["epochs"]) == ("finished", 3000)
    assert "Requeued job" in "".join(path.read_text() for path in (tmp_path / ".submitit").rglob("*_log.*"))


def several_as_one(
    devices: int,
    nodes: int,
    seeds: list[str],
    slurm: dict[str, str],
    program: Callable[..., tuple[int, str]],
    tmp_path: Path,
) -> None:
    """A run of several processes, each a task of SLURM's, has one folder and the numbers of one process."""
    several = [f"trainer.devices={devices}", f"trainer.num_nodes={nodes}", "trainer.strategy=ddp"]
    words = ["sweep=submitit_slurm", f"hydra.launcher.tasks_per_node={devices}", HERE, f"run_dir={tmp_path / 'sweep'}"]
    done = sweep(*TINY, *several, *words, *seeds, environment=slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    code, said = program("train", *TINY, "seed=3", f"run_dir={tmp_path / 'alone'}")
    assert code == 0, said
    as_one(Run(tmp_path / "sweep" / "0_ae"), Run(tmp_path / "alone"))


def as_one(several: Run, alone: Run) -> None:
    """A run of several processes has the numbers of one process."""
    assert several.summary["steps"] == alone.summary["steps"] > 0
    for name in ("recon", "mse", "psnr"):
        assert several.summary["test"][name] == pytest.approx(alone.summary["test"][name], rel=1e-4)


def sweep(*words: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "train.py", "-m", *words]
    one_thread = {**environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, timeout=500)
