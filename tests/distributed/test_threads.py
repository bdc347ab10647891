"""Threads are chosen by the size of a step and the processors alone, and stay the same when a run is resumed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_threads
from vaezoo.distributed import threads
from vaezoo.evaluation.cost import flops_of_step

Program = Callable[..., tuple[int, str]]
SMALL, LARGE = threads.SMALL_STEP / 10, threads.SMALL_STEP * 10


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight processors, all of which torch takes."""
    monkeypatch.setattr(threads, "processors", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("setting", "flops", "processes", "wanted"),
    [
        ("auto", SMALL, 1, 1),
        ("auto", LARGE, 1, 8),
        ("auto", LARGE, 2, 4),
        ("auto", LARGE, 16, 1),
        (3, SMALL, 1, 3),
        (12, LARGE, 1, 12),
        (12, LARGE, 2, 4),
    ],
)
def test_the_size_of_a_step_and_the_processors_decide(setting: Any, flops: float, processes: int, wanted: int) -> None:
    assert threads.choose(setting, flops, processes) == wanted


@pytest.mark.usefixtures("eight")
def test_the_load_of_the_moment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = [threads.choose("auto", flops) for flops in (SMALL, LARGE)]
    monkeypatch.setattr(os, "getloadavg", lambda: (100.0, 100.0, 100.0))
    assert [threads.choose("auto", flops) for flops in (SMALL, LARGE)] == quiet == [1, 8]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processors can be bound on Linux only")
def test_processors_are_those_that_this_process_may_use() -> None:
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})"
    assert said(f"{one}; from vaezoo.distributed import threads; print(threads.processors())") == "1"


def test_a_containers_quota_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    # joblib reads the quota of cgroups; its own variable is the one limit that a test can set
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert threads.processors() == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert threads.choose("auto", LARGE) == 1


def test_omp_num_threads_is_the_most_that_auto_takes() -> None:
    program = f"from vaezoo.distributed import threads; print(threads.budget(), threads.choose('auto', {LARGE}))"
    assert said(program, OMP_NUM_THREADS="1") == "1 1"


@pytest.mark.parametrize("setting", [0, -1, 1025, 1.5, True, "all", None])
def test_anything_else_is_one_sentence(setting: Any) -> None:
    with pytest.raises(ConfigError, match="threads must be auto or a number from 1 to 1024, got"):
        check_threads(setting)


def test_a_step_costs_three_times_a_forward_pass_of_its_batch(make_model: Callable[..., Any]) -> None:
    model = make_model("ae", "model.widths=[20]", "model.latent_dim=3", image_shape=[1, 8, 8])
    assert flops_of_step(model, 5) == 3 * 5 * 2 * (64 * 20 + 20 * 3 + 3 * 20 + 20 * 64)


def test_threads_and_the_variable_for_further_processes_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads.limited_to(2):
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (2, "2")
    assert torch.get_num_threads() == 1
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_run_keeps_its_threads_and_uses_them_again(
    train: Callable[..., Run], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("run", "threads=2")
    assert run.config.threads == run.summary["environment"]["threads"] == 2
    monkeypatch.setattr(threads, "SMALL_STEP", 0)
    assert program("train", f"resume={run.path}", "trainer.max_epochs=3")[0] == 0
    assert Run(run.path).summary["environment"]["threads"] == 2
    assert torch.get_num_threads() == 1


def test_a_small_model_takes_one_and_its_evaluation_too(
    train: Callable[..., Run], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    run = train("run")
    assert run.config.threads == run.summary["environment"]["threads"] == 1
    seen = []
    monkeypatch.setattr("vaezoo.commands.evaluate.evaluate_run", lambda *_, **__: seen.append(torch.get_num_threads()))
    program("evaluate", str(run.path), "quick=true")  # which fails then, as nothing was measured
    assert seen == [1]


def test_resume_auto_takes_the_threads_of_the_run_for_its_own(
    train: Callable[..., Run], program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("run", "threads=2")
    (run.path / "summary.json").unlink()
    small = ["model.widths=[16]", "trainer.max_epochs=3", "callbacks=none", "data.limit=128", "evaluation=none"]
    code, printed = program("train", f"run_dir={run.path}", "resume=auto", *small)
    assert code == 0, printed
    assert Run(run.path).summary["environment"]["threads"] == 2


@pytest.mark.parametrize(
    ("machine", "count", "others", "busy"),
    [(2, 2, 1.0, True), (2, 1, 1.0, False), (2, 1, 2.0, True), (2, 2, 0.2, False), (64, 64, 0.6, False)],
)
def test_a_busy_machine_is_said_with_what_helps(
    machine: int, count: int, others: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    monkeypatch.setattr(threads, "_computing_elsewhere", lambda: others)
    line = threads.busy_line(count)
    assert (line is not None) == busy
    if line is not None:
        assert f"other programs use about {others:.1f} of {machine} processors" in line
        assert line.endswith("or set threads=1" if count > 1 else "wait for the other programs")


@pytest.mark.parametrize(
    ("others", "environment", "wanted"),
    [
        (1, {}, "PASSIVE"),
        (0, {}, "None"),
        (1, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        (1, {"GOMP_SPINCOUNT": "7"}, "None"),
    ],
)
def test_idle_threads_sleep_on_a_busy_machine_unless_the_user_has_said_how_they_wait(
    others: int, environment: dict[str, str], wanted: str
) -> None:
    program = (
        "import os; os.cpu_count = lambda: 2; from vaezoo.distributed import threads; threads.processors = lambda: 2;"
        f" threads._computing_elsewhere = lambda: {others}; threads.sleep_when_idle_if_busy();"
        " print(os.environ.get('OMP_WAIT_POLICY'))"
    )
    assert said(program, **environment) == wanted


def test_nothing_is_asked_or_set_once_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_computing_elsewhere", lambda: pytest.fail("waits for nothing"))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    threads.sleep_when_idle_if_busy()
    assert "OMP_WAIT_POLICY" not in os.environ


def test_torch_is_not_imported_before_that() -> None:
    modules = "sys, vaezoo.__main__, vaezoo.commands.command_line, vaezoo.distributed.threads as threads"
    program = f"import {modules}; threads.processors(); print('torch' in sys.modules)"
    assert said(program) == "False"


@pytest.mark.nightly
def test_how_threads_wait_changes_no_bit(tmp_path: Path) -> None:
    short = ["model=ae", "threads=2", "callbacks=none", "data.limit=64", "trainer.max_epochs=2", "evaluation=none"]
    found = []
    for policy in ("ACTIVE", "PASSIVE"):
        words = ["vaezoo", "train", f"run_dir={tmp_path / policy}", *short]
        said(
            f"import sys; sys.argv = {words!r}; from vaezoo.commands import command_line; command_line.main()",
            OMP_WAIT_POLICY=policy,
        )
        found.append(Run(tmp_path / policy).summary["test"])
    assert found[0] == found[1]


def test_programs_that_have_ended_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (50.0, 50.0, 50.0))
    assert threads._computing_elsewhere() < 50


@pytest.mark.parametrize("recorded", [-3, 100_000, "all"])
def test_a_run_with_an_impossible_number_is_one_sentence(
    recorded: Any, train: Callable[..., Run], program: Program
) -> None:
    run = train("run")
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("threads: 1", f"threads: {recorded}"))
    code, printed = program("evaluate", str(run.path), "quick=true")
    assert code == 1
    assert "threads must be auto or a number from 1 to 1024" in printed
    assert len(printed.strip().splitlines()) == 1


def said(program: str, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name not in (threads.NUMBER, *threads.WAITING)}
    plain["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**plain, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
