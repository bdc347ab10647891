"""Launchers of a benchmark: their settings, what a machine of a cluster does, and Ray."""

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmark.test_benchmark import text, wait_for
from vaezoo.benchmark import command, grid, on_slurm, preflight
from vaezoo.benchmark.clusters import Cluster, work
from vaezoo.benchmark.executor import JobResult, StoppedError, Task, is_at_work
from vaezoo.benchmark.local_pool import Pool
from vaezoo.benchmark.on_ray import Ray
from vaezoo.benchmark.on_slurm import Slurm
from vaezoo.config.errors import ConfigError

Benchmark = Callable[..., tuple[int, str]]


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with SLURM's commands, none of which is to be called."""
    pytest.importorskip("submitit", reason="launcher=submitit_slurm has packages of its own")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


@pytest.mark.usefixtures("sbatch")
@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("launcher=slurm", "launcher must be one of local, submitit_slurm, ray, got 'slurm'"),
        ("launcher.partition=gpu", "launcher.partition applies only to a cluster; add launcher=submitit_slurm or ray"),
        ("launcher.partion=gpu", "launcher.partion is not a setting of submitit; did you mean 'partition'?"),
        ("launcher.nodes=2", "launcher.nodes is set by the benchmark, because each run is one job; see jobs="),
        ("launcher.name=mine", "launcher.name is set by the benchmark"),
        ("sweep=submitit_slurm", "sweep= cannot be set here: a benchmark does not use Hydra's launchers"),
        ("hydra/launcher=ray", "hydra/launcher= cannot be set here: a benchmark does not use Hydra's launchers"),
    ],
)
def test_a_setting_that_no_launcher_has_is_named(
    word: str,
    sentence: str,
    benchmark: Benchmark,
    tmp_path: Path,
) -> None:
    on_slurm = [] if word in ("launcher=slurm", "launcher.partition=gpu") else ["launcher=submitit_slurm"]
    code, said = benchmark("models=[vae]", *on_slurm, word, f"out={tmp_path / 'out'}")
    assert (code, sentence in said, said.count("\n")) == (1, True, 1)
    assert not (tmp_path / "out").exists()


def test_a_setting_that_ray_lacks_is_named(benchmark: Benchmark, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="launcher=ray has packages of its own")
    code, said = benchmark("models=[vae]", "launcher=ray", "launcher.adress=auto", f"out={tmp_path / 'out'}")
    assert (code, said) == (1, "error: launcher.adress is not a setting of ray.init; did you mean 'address'?\n")


@pytest.mark.parametrize(("module", "launcher", "extra"), [("submitit", Slurm, "slurm"), ("ray", Ray, "ray")])
def test_a_launcher_whose_package_is_missing_names_the_extra(
    module: str, launcher: type[Slurm | Ray], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf'not installed: pip install -e "\.\[{extra}\]"'):
        launcher(Path("out"), None, {}).check()


def test_without_slurm_there_is_no_sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="launcher=submitit_slurm has packages of its own")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="needs SLURM's commands, and there is no sbatch"):
        Slurm(Path("out"), None, {}).check()


def test_settings_of_a_launcher_are_values_and_no_columns() -> None:
    words = ["launcher=submitit_slurm", "launcher.setup=[a b,c]", "launcher.timeout_min=60"]
    request = grid.read(["models=[vae]", *words, "out=OUT"])
    assert request.launcher_settings == {"setup": ["a b", "c"], "timeout_min": 60}
    assert request.settings == ()
    assert request.jobs is None


def test_the_devices_of_a_cluster_are_not_looked_for_here(tmp_path: Path) -> None:
    (cell, *_) = grid.read_cells(grid.read(["models=[vae]", "trainer.accelerator=gpu", "trainer.devices=9", "out=O"]))
    preflight.check_settings(cell.config, elsewhere=True)
    (cell, *_) = grid.read_cells(grid.read(["models=[vae]", "trainer.num_nodes=2", "out=O"]))
    with pytest.raises(ConfigError, match=r"each run of a benchmark uses one machine, got trainer\.num_nodes=2"):
        preflight.check_settings(cell.config, elsewhere=True)


def test_a_machine_runs_a_command_with_its_output_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "SUBMITIT_EXECUTOR"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "3")
    tell = "import os, sys; print(os.environ['OMP_NUM_THREADS'], [n for n in os.environ if 'SLURM' in n]); sys.exit(7)"
    log, seen = tmp_path / "run" / "log", tmp_path / "plan"
    seen.touch()
    result = JobResult(*work((sys.executable, "-c", tell), str(log), str(seen)))
    assert (result.code, result.reason) == (7, "")
    assert result.seconds > 0
    assert log.read_text().splitlines()[-1] == "3 []"


def test_a_machine_that_does_not_see_the_folder_says_so_and_writes_nothing(tmp_path: Path) -> None:
    result = JobResult(*work(("true",), str(tmp_path / "run" / "log"), str(tmp_path / "elsewhere" / "plan")))
    assert result.code == 1
    assert "all machines of the cluster must share the folder out=" in result.reason
    assert not (tmp_path / "run").exists()


def test_a_run_that_another_command_is_at_work_on_is_not_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    with log.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_at_work(log)
        result = JobResult(*work(("touch", str(tmp_path / "started")), str(log), str(log)))
    assert "another command is running" in result.reason
    assert not (tmp_path / "started").exists()
    assert not is_at_work(log)
    assert not is_at_work(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_processes_of_another_launcher_are_waited_for(tmp_path: Path) -> None:
    log, said = tmp_path / "log", []
    with log.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"], stdout=held)
    Pool(1).wait_for_left_over([log, tmp_path / "none"], said.append)
    assert child.wait() == 0
    assert said == ["waiting for 1 job of an earlier command; Ctrl-C stops"]


def test_a_command_is_ended_when_the_job_is(tmp_path: Path) -> None:
    """As submitit does it before a time limit: by an error from a signal's handler."""
    log = tmp_path / "log"
    log.touch()
    told = "import signal, sys, time; signal.signal(15, lambda *_: (print('saved', flush=True), sys.exit(143)));"
    sleeper = (sys.executable, "-c", told + "print('begun', flush=True); time.sleep(60)")
    before = signal.signal(signal.SIGALRM, _limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        with pytest.raises(TimeoutError):
            work(sleeper, str(log), str(log))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert log.read_text().splitlines()[1:] == ["begun", "saved"]


def _limit(*_: object) -> None:
    raise TimeoutError


@pytest.mark.usefixtures("sbatch")
def test_results_that_lay_in_the_folder_before_are_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 17\n")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\necho 17\n")
    (tmp_path / "bin" / "squeue").chmod(0o755)
    planted = tmp_path / "jobs" / "17" / "17_0_result.pkl"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(pickle.dumps(("success", (0, 1.0, ""))))
    slurm = Slurm(tmp_path, None, {})
    (job,) = slurm.submit([Task("run", ("true",), tmp_path / "log")])
    assert job.job_id == "17"
    assert slurm.result(job) is None
    job.paths.result_pickle.write_bytes(pickle.dumps(("success", (7, 1.0, ""))))
    assert slurm.result(job) == JobResult(7, 1.0)


@pytest.mark.usefixtures("sbatch")
def test_a_queue_that_does_not_answer_is_no_empty_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_slurm, "SQUEUE_SECONDS", 0.01)
    monkeypatch.setattr(on_slurm, "PATIENCE_SECONDS", -1.0)
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 17\n")
    squeue, asked = tmp_path / "bin" / "squeue", tmp_path / "asked"
    squeue.write_text(f"#!/bin/sh\necho >> {asked}\nexit 1\n")
    squeue.chmod(0o755)
    slurm = Slurm(tmp_path, None, {})
    with pytest.raises(ConfigError, match="squeue does not answer, so jobs of an earlier command may still be running"):
        slurm.left_over()
    assert asked.read_text().count("\n") == on_slurm.SQUEUE_TRIES
    (job,) = slurm.submit([Task("run", ("true",), tmp_path / "log")])
    assert slurm.result(job) is None  # it is not lost
    squeue.write_text(f"#!/bin/sh\n[ -e {tmp_path / 'busy'} ] && exec sleep 60\n: > {tmp_path / 'busy'}\necho 3 4\n")
    assert slurm.left_over() == 2
    monkeypatch.setattr(on_slurm, "SQUEUE_LIMIT_SECONDS", 0.2)
    assert slurm.left_over() == 2  # as was known


class Endless(Cluster):
    """Jobs that never end, and what is asked of them."""

    poll_seconds = 0.05
    asked_for: list[bool]

    def submit(self, tasks: Sequence[Task]) -> Sequence[Task]:
        self.asked_for = []
        return tasks

    def result(self, job: Any) -> JobResult | None:
        return JobResult(1, 0.0) if True in self.asked_for else None

    def cancel(self, jobs: Sequence[Any], *, at_once: bool) -> None:
        assert [job.name for job in jobs] == ["endless"]
        self.asked_for.append(at_once)


def test_ctrl_c_cancels_jobs_and_a_second_one_does_not_wait_for_them(tmp_path: Path) -> None:
    cluster = Endless(tmp_path, None, {})
    timers = [threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)) for after in (0.2, 0.6)]
    for timer in timers:
        timer.start()
    with pytest.raises(StoppedError) as stopped:
        cluster.run([Task("endless", ("true",), tmp_path / "log")], lambda *_: None)
    assert stopped.value.exit_code == 130
    assert cluster.asked_for == [False, True]
    for timer in timers:
        timer.join()


@pytest.mark.nightly
def test_runs_are_tasks_of_ray_with_logs_failures_and_a_report(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray", reason="launcher=ray has packages of its own")
    out = tmp_path / "out"
    process = start("models=[vae]", "seeds=[0,13,1]", "jobs=2", "launcher=ray", f"out={out}")
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 1, said
    assert "    a line before\n    error: thirteen is unlucky\n" in said
    assert "2 of 3 runs are compared" in said
    assert json.loads((out / "vae-seed_1" / "evaluation.json").read_text())["metrics"] == {}


@pytest.mark.nightly
def test_ctrl_c_and_a_kill_end_tasks_of_ray_and_the_same_command_goes_on(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray", reason="launcher=ray has packages of its own")
    words = ["models=[vae]", "seeds=[14]", "launcher=ray", f"out={tmp_path / 'out'}"]
    log = tmp_path / "out" / "vae-seed_14" / "benchmark.log"
    stopped = start(*words)
    wait_for(lambda: "begun" in text(log), 60)
    stopped.send_signal(signal.SIGINT)
    said, _ = stopped.communicate(timeout=60)
    assert (stopped.returncode, "stopped; rerun the same command to resume" in said) == (130, True)
    wait_for(lambda: not is_at_work(log))
    killed = start(*words)
    wait_for(lambda: text(log).count("begun") == 2, 60)
    killed.kill()
    wait_for(lambda: not is_at_work(log), 60)


def test_usage_names_every_launcher() -> None:
    assert all(f"launcher={name}" in command.USAGE for name in grid.LAUNCHERS if name != "local")
