"""Sweeps and runs on a real SLURM of two nodes."""

import subprocess
import sys
from pathlib import Path

import pytest

from vaezoo.runs import Run

ROOT = Path(__file__).resolve().parents[2]
TINY = ["model=ae", "model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128"]
TINY += ["evaluation=none", "logger.tensorboard=null", "trainer.accelerator=cpu"]
HERE = 'hydra.launcher.setup=["export MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1"]'

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="sweep=submitit_slurm has packages of its own")


def test_each_run_of_a_sweep_is_a_job_and_one_that_fails_ends_no_other(slurm: dict[str, str], tmp_path: Path) -> None:
    words = ["sweep=submitit_slurm", "hydra.launcher.partition=debug", HERE, f"run_dir={tmp_path}", "seed=1,-1"]
    done = train("-m", *TINY, *words, environment=slurm)
    assert done.returncode == 1
    assert "1 run of the sweep" in done.stderr
    assert "1_ae: seed must be from 0" in done.stderr.strip().splitlines()[-1]
    assert Run(tmp_path / "0_ae").summary["seed"] == 1
    assert list((tmp_path / ".submitit").rglob("*_0_log.out"))


@pytest.mark.nightly
@pytest.mark.parametrize("shape", [(2, 1), (1, 2)], ids=["one node with two devices", "two nodes"])
def test_a_run_of_a_sweep_on_several_devices_is_one_run_with_the_numbers_of_one(
    shape: tuple[int, int], slurm: dict[str, str], tmp_path: Path
) -> None:
    devices, nodes = shape
    alone = train(*TINY, "seed=3", f"run_dir={tmp_path / 'alone'}", environment=slurm)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    several = [f"trainer.devices={devices}", f"trainer.num_nodes={nodes}", "trainer.strategy=ddp"]
    words = ["sweep=submitit_slurm", f"hydra.launcher.tasks_per_node={devices}", HERE, f"run_dir={tmp_path / 'sweep'}"]
    done = train("-m", *TINY, *several, *words, "seed=3,4", environment=slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "sweep").glob("[!.]*/")} == {"0_ae", "1_ae"}
    as_one(Run(tmp_path / "sweep" / "0_ae"), Run(tmp_path / "alone"))
    assert Run(tmp_path / "sweep" / "1_ae").summary["status"] == "finished"


def as_one(several: Run, alone: Run) -> None:
    """A run of several processes has the numbers of one process."""
    assert several.summary["steps"] == alone.summary["steps"] > 0
    for name in ("recon", "mse", "psnr"):
        assert several.summary["test"][name] == pytest.approx(alone.summary["test"][name], rel=1e-4)


def train(*words: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "train.py", *words]
    one_thread = {**environment, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=one_thread, capture_output=True, text=True, timeout=300)
