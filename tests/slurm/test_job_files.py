"""The job files of scripts/slurm on a real SLURM of two nodes, as the documentation starts them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.config import hydra_config

FILES = sorted((ROOT / "scripts" / "slurm").glob("*.sh"))
TINY = ["model=ae", "model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128"]
TINY += ["evaluation=none", "logger.tensorboard=null", "trainer.accelerator=cpu"]
BARE = ["--mem=0", "--cpus-per-task=1", "--time=10"]
"""What these nodes have, in the place of what the files ask for."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_job_file_says_how_it_is_started_and_is_a_clean_script(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert f"scripts/slurm/{file.name}" in text.partition("\n#SBATCH")[0]
    assert "set -euo pipefail" in text
    assert os.access(file, os.X_OK)
    if (shellcheck := shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")) is None:
        pytest.skip("shellcheck is not installed, which says whether a script is clean")
    done = subprocess.run([shellcheck, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("file", ["several_nodes", "several_nodes_torchrun"])
def test_a_run_on_two_nodes_is_one_run(file: str, slurm: dict[str, str], tmp_path: Path) -> None:
    tasks = [] if file.endswith("torchrun") else ["--ntasks-per-node=1"]
    job = submit(file, *tasks, words=TINY, slurm={**slurm, "DEVICES": "1"}, folder=tmp_path)
    run = Run(tmp_path / "runs" / job)
    assert run.summary["status"] == "finished", (tmp_path / f"slurm-{job}.log").read_text()
    assert run.summary["steps"] == 8  # two epochs of four global batches
    assert (tmp_path / f"slurm-{job}.log").read_text().count("objective   ") == 1


@pytest.mark.nightly
def test_the_jobs_of_an_array_have_a_seed_each(slurm: dict[str, str], tmp_path: Path) -> None:
    job = submit("seeds", "--array=3,5", words=TINY, slurm=slurm, folder=tmp_path)
    for seed in (3, 5):
        assert Run(tmp_path / "runs" / f"{job}_seed_{seed}").summary["seed"] == seed


@pytest.mark.nightly
def test_a_run_longer_than_its_job_is_requeued_and_goes_on_by_itself(slurm: dict[str, str], tmp_path: Path) -> None:
    if "auto:" not in (hydra_config.CONFIGS / "train.yaml").read_text():
        pytest.skip("needs resume=auto")
    long = [*TINY, "trainer.max_epochs=3000", "callbacks=default", "callbacks.samples=null"]
    long = [word for word in long if word not in ("trainer.max_epochs=2", "callbacks=none")]
    job = submit("requeue", "--time=1", "--signal=USR1@30", words=long, slurm=slurm, folder=tmp_path, seconds=1200)
    log = (tmp_path / f"slurm-{job}.log").read_text()
    assert f"job {job} goes back into the queue" in log
    run = Run(tmp_path / "runs" / job)
    assert (run.summary["status"], run.summary["epochs"]) == ("finished", 3000), log
    steps = [row["step"] for row in run.metrics if "train/recon" in row]
    assert steps == sorted(set(steps))


@pytest.mark.nightly
def test_a_job_that_is_cancelled_is_not_requeued(slurm: dict[str, str], tmp_path: Path) -> None:
    program = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print('begun', flush=True)"
    (tmp_path / "train.py").write_text(program + "\ntime.sleep(60)\n")
    job = submit("requeue", words=[], slurm=slurm, folder=tmp_path, wait=False)
    log = tmp_path / f"slurm-{job}.log"
    _until(lambda: log.is_file() and "begun" in log.read_text(), 30)
    subprocess.run(["scancel", job], env=slurm, check=True)
    _until(lambda: job not in _queue(slurm), 60)
    assert "back into the queue" not in log.read_text()


def submit(
    name: str,
    *options: str,
    words: list[str],
    slurm: dict[str, str],
    folder: Path,
    wait: bool = True,
    seconds: float = 300,
) -> str:
    """Submit a job file without the GPUs that these nodes lack, and wait until it has left the queue: its number."""
    lines = (ROOT / "scripts" / "slurm" / f"{name}.sh").read_text().splitlines()
    (folder / f"{name}.sh").write_text(
        "\n".join(line for line in lines if not line.startswith("#SBATCH --gpus")) + "\n"
    )
    if not (folder / "train.py").exists():
        (folder / "train.py").write_text("from vaezoo.commands.command_line import train\n\ntrain()\n")
    path = f"{Path(sys.executable).parent}:{slurm['PATH']}"
    here = {**slurm, "PATH": path, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = ["sbatch", "--parsable", *BARE, *options, f"{name}.sh", *words]
    done = subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    job = done.stdout.strip()
    if wait:
        _until(lambda: job not in _queue(slurm), seconds)
    return job


def _queue(slurm: dict[str, str]) -> list[str]:
    squeue = ["squeue", "--noheader", "--format=%F"]
    return subprocess.run(squeue, env=slurm, capture_output=True, text=True).stdout.split()


def _until(what: object, seconds: float) -> None:
    assert callable(what)
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.5)
