"""A benchmark's runs as SLURM jobs: the same lines, report and resume as on one machine."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.benchmark.conftest import DRIVER, PLAY
from tests.benchmark.test_benchmark import text, wait_for
from tests.conftest import ROOT
from tests.slurm.conftest import jobs

ON_SLURM = ["launcher=submitit_slurm", "launcher.partition=debug", "launcher.timeout_min=5"]

Start = Callable[..., "subprocess.Popen[str]"]

pytest.importorskip("submitit", reason="launcher=submitit_slurm has packages of its own")


@pytest.fixture
def start(slurm: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """The command in a process of its own on SLURM; ``real`` trains in earnest, else played commands leave files."""
    started = []

    def run(*words: str, real: bool = False) -> "subprocess.Popen[str]":
        play = tmp_path / "play.py"
        play.write_text(PLAY.replace("REAL", str(real)))
        driver = [sys.executable, "-c", DRIVER.format(play=str(play)), *words, f"out={tmp_path / 'out'}"]
        environment = {**slurm, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            driver, text=True, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
    subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], env=slurm, capture_output=True)
    wait_for(lambda: not jobs(slurm))


def test_runs_are_jobs_with_logs_failures_and_a_report_as_on_one_machine(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start("models=[vae]", "seeds=[0,13,1]", "jobs=2", *ON_SLURM)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 1, said
    assert "vae-seed_13 could not be trained (exit code 1)" in said
    assert "    a line before\n    error: thirteen is unlucky\n" in said
    assert "[3/3] trained" in said
    assert "[2/2] evaluated" in said
    assert "2 of 3 runs are compared" in said
    assert text(out / "vae-seed_0" / "benchmark.log").count("threads 1") == 1
    assert len((out / "report" / "table.csv").read_text().split()) == 2
    assert json.loads((out / "vae-seed_1" / "evaluation.json").read_text())["metrics"] == {}


@pytest.mark.nightly
def test_a_command_stopped_anywhere_goes_on_and_starts_no_run_twice(
    start: Start, slurm: dict[str, str], tmp_path: Path
) -> None:
    words = ["models=[vae]", "seeds=[0,14]", *ON_SLURM]
    log, summary = tmp_path / "out" / "vae-seed_14" / "benchmark.log", tmp_path / "out" / "vae-seed_0" / "summary.json"
    first = start(*words)
    wait_for(lambda: "begun" in text(log) and summary.is_file())
    first.kill()  # its jobs go on
    again = start(*words)
    assert again.stdout is not None
    assert again.stdout.readline() == "waiting for 1 job of an earlier command; Ctrl-C stops\n"
    assert text(log).count("begun") == 1
    again.send_signal(signal.SIGINT)
    said, _ = again.communicate(timeout=30)
    assert (again.returncode, "stopped; rerun the same command to resume" in said) == (130, True)
    wait_for(lambda: not jobs(slurm))
    third = start(*words)
    wait_for(lambda: text(log).count("begun") == 2)
    third.send_signal(signal.SIGTERM)
    said, _ = third.communicate(timeout=30)
    assert third.returncode == 143
    assert "1 of 2 runs are finished and kept" in said
    wait_for(lambda: not jobs(slurm))
    assert text(tmp_path / "out" / "vae-seed_0" / "benchmark.log").count("threads") == 1


def test_what_slurm_does_not_take_is_told_in_one_sentence(start: Start) -> None:
    process = start("models=[vae]", "seeds=[0]", *ON_SLURM, "launcher.partition=nowhere")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: SLURM rejected the jobs: " in said
    assert "invalid partition" in said
    assert "Traceback" not in said


@pytest.mark.nightly
def test_a_run_that_meets_its_time_limit_is_told_and_goes_on_with_the_next_command(
    start: Start, tmp_path: Path
) -> None:
    tiny = ["callbacks=none", "data.limit=64", "model.widths=[8]", "logger.tensorboard=null", "evaluate.quick=true"]
    words = ["models=[vae]", "seeds=[0]", *tiny, *ON_SLURM]
    limits = ["launcher.timeout_min=1", "launcher.signal_delay_s=30"]
    cut = start(*words, *limits, "trainer.max_epochs=4000", real=True)
    said, _ = cut.communicate(timeout=180)
    assert cut.returncode == 1
    assert "reached its time limit" in said
    log = tmp_path / "out" / "vae-seed_0" / "benchmark.log"
    assert json.loads((log.parent / "summary.json").read_text())["status"] == "interrupted"
    begun = time.monotonic()
    again = start(*words, "launcher.timeout_min=30", "trainer.max_epochs=4000", real=True)
    said, _ = again.communicate(timeout=400)
    assert again.returncode == 0, said
    assert "train resume=" in text(log)
    assert time.monotonic() - begun < 400
