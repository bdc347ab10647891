"""Runs of a benchmark as processes: what is kept, what goes on, what is told, and that nothing is left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaezoo import Run
from vaezoo.benchmark import command, grid, preflight
from vaezoo.benchmark.display import Stage, duration, time_left
from vaezoo.benchmark.executor import Task
from vaezoo.benchmark.folder import Folder, first_difference, fraction
from vaezoo.benchmark.local_pool import Pool
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.hydra_config import explain


def wait_for(what: Callable[[], Any], seconds: float = 40) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def logs(out: Path) -> list[Path]:
    return [out / f"vae-seed_{seed}" / "benchmark.log" for seed in (0, 15, 2, 3, 4)]


def text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_a_benchmark_trains_evaluates_and_compares_all_its_runs(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said = benchmark(
        "models=[ae,beta_vae]", "model.beta=[1,4]", "seeds=[0]", "jobs=2", "evaluate.k=9", f"out={out}"
    )
    assert code == 0, said
    names = ["ae-seed_0", "beta_vae-beta_1-seed_0", "beta_vae-beta_4-seed_0"]
    assert (out / "report" / "table.csv").read_text().split() == [str(out / name) for name in names]
    for name in names:
        assert json.loads((out / name / "evaluation.json").read_text())["settings"] == ["k=9"]
        assert "train model=" in (out / name / "benchmark.log").read_text()
        assert f"trained {name} in" in said
    assert "3 of 3 runs are compared" in said


def test_the_same_command_does_nothing_twice_and_a_greater_one_adds(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words = ["models=[vae]", f"out={tmp_path / 'out'}"]
    assert benchmark(*words, "seeds=[0]")[0] == 0
    log = tmp_path / "out" / "vae-seed_0" / "benchmark.log"
    before = log.read_text()
    code, said = benchmark(*words, "seeds=[0,1]")
    assert (code, log.read_text()) == (0, before)
    assert "1 of 2 runs are finished and kept" in said
    assert "2 of 2 runs are compared" in said
    assert benchmark(*words, "seeds=[0,1]", "evaluate.k=2")[0] == 0
    assert "k=2" in log.read_text().removeprefix(before)
    assert " train " not in log.read_text().removeprefix(before)


def test_an_evaluation_that_somebody_else_made_does_not_count(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    words = ["models=[vae]", "seeds=[0,1]", f"out={tmp_path / 'out'}"]
    assert benchmark(*words)[0] == 0
    changed = tmp_path / "out" / "vae-seed_0" / "evaluation.json"
    changed.write_text("{}")
    code, said = benchmark(*words)
    assert code == 0
    assert "evaluated vae-seed_0 in" in said
    assert "evaluated vae-seed_1 in" not in said
    assert "metrics" in changed.read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models=[vae]", "seeds=[1]"], "contains another benchmark, which has the run vae-seed_0"),
        (
            ["models=[vae]", "seeds=[0]", "trainer.max_epochs=3"],
            "trainer.max_epochs is 100 in the folder and 3 in this command",
        ),
    ],
)
def test_another_benchmark_in_the_same_folder_is_refused(
    words: list[str], sentence: str, benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert benchmark("models=[vae]", "seeds=[0]", f"out={out}")[0] == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, said = benchmark(*words, f"out={out}")
    assert code == 1
    assert sentence in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_with_other_things_in_it_is_refused(benchmark: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    code, said = benchmark("models=[vae]", f"out={tmp_path / 'out'}")
    assert (code, "contains other files, not a benchmark" in said) == (1, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
    (tmp_path / "file").write_text("")
    code, said = benchmark("models=[vae]", f"out={tmp_path / 'file' / 'out'}")
    assert (code, said.count("error: "), "Traceback" in said) == (1, 1, False)


@pytest.mark.parametrize("link", ["benchmark.lock", "vae-seed_0/benchmark.log", "compare.log"])
def test_nothing_is_written_through_a_link_out_of_the_folder(
    link: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    precious, path = tmp_path / "precious", tmp_path / "out" / link
    precious.write_text("mine")
    path.parent.mkdir(parents=True)
    path.symlink_to(precious)
    (tmp_path / "out" / "benchmark.json").write_text('{"runs": {}, "evaluate": [], "evaluated": {}}')
    assert command.main(["models=[vae]", "seeds=[0]", f"out={tmp_path / 'out'}"]) == 1
    assert f"{path} is a link that leads out" in capfd.readouterr().err
    assert precious.read_text() == "mine"


def test_a_run_that_fails_is_told_with_its_last_lines_and_the_others_go_on(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said = benchmark("models=[vae]", "seeds=[0,13,1]", "jobs=2", f"out={out}")
    assert code == 1
    assert "vae-seed_13 could not be trained (exit code 1)" in said
    assert "    a line before\n    error: thirteen is unlucky\n" in said
    assert "2 of 3 runs are compared" in said
    assert [name for name in ("vae-seed_0", "vae-seed_1") if (out / name / "evaluation.json").is_file()]
    assert said.strip().splitlines()[-1].startswith("error: 1 of the benchmark's processes failed")


@pytest.mark.parametrize(
    ("words", "processes"),
    [
        (["evaluate.quick=true", "jobs=2"], [["0", "15", "2"], ["3", "4"]]),
        (["evaluate.quick=true"], [["0", "15", "2", "3"], ["4"]]),
        (["jobs=2"], [["0"], ["15"], ["2"], ["3"], ["4"]]),
    ],
)
def test_quick_evaluations_share_processes_and_fail_one_by_one(
    words: list[str], processes: list[list[str]], benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said = benchmark("models=[vae]", "seeds=[0,15,2,3,4]", *words, f"out={out}")
    assert code == 1, said
    assert "vae-seed_15 could not be evaluated (exit code 1)" in said
    assert f"    error: {out / 'vae-seed_15'}: fifteen cannot be evaluated\n" in said
    begun = [[line for line in text(path).splitlines() if " evaluate " in line] for path in logs(out)]
    assert [re.findall(r"seed_(\d+)", line) for lines in begun for line in lines] == processes
    code, said = benchmark("models=[vae]", "seeds=[0,15,2,3,4]", *words, f"out={out}")
    assert [line.split()[2:4] for line in said.splitlines() if "evaluated" in line and "[" in line] == [
        ["vae-seed_15", "FAILED"]
    ]


def test_what_a_half_done_run_lacks_decides_how_it_goes_on(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["models=[vae]", "seeds=[0,1,2]", f"out={out}"]
    assert benchmark(*words)[0] == 0
    for seed in (0, 1, 2):
        run = out / f"vae-seed_{seed}"
        (run / "summary.json").unlink()
        (run / "checkpoints").mkdir()
        (run / "mine.txt").write_text("kept")
    import zipfile

    with zipfile.ZipFile(out / "vae-seed_0" / "checkpoints" / "last.ckpt", "w") as whole:
        whole.writestr("a", "b")
    (out / "vae-seed_1" / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    (out / "vae-seed_2" / "config.yaml").write_text("")
    assert benchmark(*words)[0] == 0
    assert "resume=" in text(out / "vae-seed_0" / "benchmark.log")
    for seed in (1, 2):
        log = text(out / f"vae-seed_{seed}" / "benchmark.log")
        assert (log.count("train model=vae"), log.count("resume=")) == (2, 0)
        assert (out / f"vae-seed_{seed}" / "mine.txt").is_file()


def test_a_run_of_somebody_else_is_neither_taken_nor_cleared(
    benchmark: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["models=[vae]", "seeds=[0]", f"out={out}"]
    assert benchmark(*words)[0] == 0
    (out / "vae-seed_0" / "benchmark.log").unlink()
    code, said = benchmark(*words)
    assert code == 1
    assert "vae-seed_0 contains a run that is not this benchmark's" in said
    assert (out / "vae-seed_0" / "config.yaml").is_file()


def test_ctrl_c_ends_the_runs_cleanly_and_the_same_command_goes_on(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["models=[vae]", "seeds=[0,14]", "jobs=2", f"out={out}"]
    first = start(*words)
    log, summary = out / "vae-seed_14" / "benchmark.log", out / "vae-seed_0" / "summary.json"
    wait_for(lambda: "begun" in text(log) and summary.is_file())
    second = start(*words)
    said, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"in use by another benchmark (process {first.pid})" in said
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=30)
    assert first.returncode == 130
    assert "stopped; rerun the same command to resume" in said
    assert text(log).count("stopped cleanly") == 1
    third = start(*words)
    wait_for(lambda: text(log).count("begun") == 2)
    assert text(out / "vae-seed_0" / "benchmark.log").count("threads") == 1
    third.send_signal(signal.SIGTERM)
    assert third.wait(timeout=30) == 143


def test_runs_end_with_a_benchmark_that_is_killed(
    start: Callable[..., "subprocess.Popen[str]"], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start("models=[vae]", "seeds=[14]", f"out={out}")
    log = out / "vae-seed_14" / "benchmark.log"
    child = int(wait_for(lambda: text(log).partition("begun ")[2].split())[0])
    process.kill()
    wait_for(lambda: not _runs(child), 10)
    with Folder(out).locked(patience=5):
        pass


def _runs(process: int) -> bool:
    state = text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def test_a_lock_lasts_as_long_as_a_process_that_inherited_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    with folder.locked() as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
        with pytest.raises(RunError, match=f"in use by another benchmark .process {os.getpid()}"), folder.locked():
            pass
    with pytest.raises(RunError, match="are still running"), folder.locked(patience=0.3):
        pass
    child.communicate(b"\n")
    with folder.locked(patience=5):
        pass


@pytest.mark.nightly
def test_a_killed_benchmark_ends_as_runs_that_were_not(
    start: Callable[..., "subprocess.Popen[str]"], program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    tiny = ("callbacks=none", "data.limit=64", "model.widths=[8]", "logger.tensorboard=null", "trainer.max_epochs=40")
    words = ["models=[vae]", "seeds=[0,1]", "jobs=2", *tiny, f"out={tmp_path / 'out'}"]
    runs = [tmp_path / "out" / f"vae-seed_{seed}" for seed in (0, 1)]
    killed = start(*words, real=True)
    wait_for(lambda: all((run / "checkpoints" / "last.ckpt").is_file() for run in runs))
    killed.kill()
    again = start(*words, real=True)
    said, _ = again.communicate(timeout=100)
    assert again.returncode == 0, said
    assert any("train resume=" in text(run / "benchmark.log") for run in runs)
    for seed, run in enumerate(runs):
        alone = tmp_path / str(seed)
        assert program("train", "model=vae", *tiny, "evaluation=none", f"seed={seed}", f"run_dir={alone}")[0] == 0
        for part in ("status", "epochs", "steps", "val", "test"):
            assert Run(run).summary[part] == Run(alone).summary[part]


def test_mistakes_in_values_are_named_before_anything_starts(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """By the real look ahead, which takes a process that imports torch."""
    words = ["models=[vae,conv_vae]", "model.latent_dim=[2,two]", f"out={tmp_path / 'out'}"]
    assert command.main(words) == 1
    said = "".join(capfd.readouterr())
    assert said.strip() == "error: model.latent_dim must be int or null, got 'two' (str)"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("model.network=cnn", "model.network must be one of mlp, conv, resnet, got 'cnn'"),
        ("trainer.accelerator=warp", "warp"),
        ("data.limit=100000", "data.limit"),
        ("trainer.num_nodes=2", "each run of a benchmark uses one machine, got trainer.num_nodes=2"),
    ],
)
def test_what_training_would_refuse_is_refused_before(word: str, sentence: str) -> None:
    (cell, *_) = grid.read_cells(grid.read(["models=[vae]", word, "data=digits", "out=OUT"]))
    with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
        preflight.check_settings(cell.config)
        preflight.check_images(cell.config["data"])
    assert sentence in (explain(caught.value) or "")


def test_settings_of_evaluate_are_looked_at_before() -> None:
    preflight.check_evaluation(["quick=true", "k=5"])
    with pytest.raises(ConfigError, match=r"evaluate\.kk is not a setting here; did you mean 'k'"):
        preflight.check_evaluation(["kk=5"])


def test_columns_are_looked_at_once_for_all_seeds() -> None:
    made = [cell.config for cell in grid.read_cells(grid.read(["models=[ae,vae]", "seeds=[0,1,2]", "out=OUT"]))]
    assert [cfg["model"]["_target_"] for cfg in preflight.without_seeds(made)] == [
        "vaezoo.models.AE",
        "vaezoo.models.VAE",
    ]


def test_threads_are_shared_out_and_torch_keeps_to_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    log = tmp_path / "log"
    task = Task("threads", (sys.executable, "-c", "import torch; print('threads', torch.get_num_threads())"), log)
    codes = []
    Pool(jobs=2).run([task], lambda task, code, seconds: codes.append(code))
    assert codes == [0]
    assert log.read_text().splitlines()[-1] == "threads 1"
    assert Pool(jobs=8).environment(7)["OMP_NUM_THREADS"] == "1"


def test_processes_are_told_how_many_run_beside_them(tmp_path: Path) -> None:
    program = "import os; print('at once', os.environ['VAEZOO_RUNS_AT_ONCE'])"
    for count, expected in ((3, "2"), (1, "1")):
        tasks = [Task(f"{at}", (sys.executable, "-c", program), tmp_path / f"{count}-{at}") for at in range(count)]
        Pool(jobs=2).run(tasks, lambda *_: None)
        assert {task.log.read_text().splitlines()[-1] for task in tasks} == {f"at once {expected}"}
    assert Pool(jobs=4, gpus=["0", "1"]).environment(0)["VAEZOO_RUNS_AT_ONCE"] == "2"  # on each GPU


def test_gpus_are_shared_out_where_there_are_several() -> None:
    gpus = [Pool(jobs=3, gpus=["0", "1"]).environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert gpus == ["0", "1", "0"]
    assert Pool(jobs=3, gpus=["0"]).environment(2).get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_as_many_processes_run_at_a_time_as_there_are_jobs(tmp_path: Path) -> None:
    at_once: list[int] = []
    tasks = [Task(str(index), ("sleep", "0.5"), tmp_path / str(index)) for index in range(5)]
    ended: list[str] = []
    Pool(jobs=2).run(tasks, lambda task, *_: ended.append(task.name), lambda running: at_once.append(len(running)))
    assert max(at_once) == 2
    assert sorted(ended) == ["0", "1", "2", "3", "4"]


def test_how_far_a_run_is_stands_in_the_last_line_of_its_metrics(tmp_path: Path) -> None:
    by_steps = {"trainer": {"max_steps": 200, "max_epochs": -1}}
    by_epochs = {"trainer": {"max_steps": -1, "max_epochs": 5}}
    assert fraction(tmp_path, by_steps) == 0
    rows = "\n".join(f"{step // 50},{step},0.5" for step in range(0, 110, 10))
    (tmp_path / "metrics.csv").write_text(f"epoch,step,val/loss\n{rows}\n")
    assert fraction(tmp_path, by_steps) == 0.5
    assert fraction(tmp_path, by_epochs) == 2 / 5
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n")
    assert fraction(tmp_path, by_steps) == 0


def test_the_time_left_goes_by_the_speed_since_the_start() -> None:
    now = [0.0]
    training = Stage("trained", "training", 4, clock=lambda: now[0])
    evaluation = Stage("evaluated", "evaluation", 4, clock=lambda: now[0])
    training.begin(1, 1.5)  # one is finished and one half done
    assert training.seconds_left() is None
    now[0], training.done = 60.0, 2.5
    assert training.seconds_left() == 90
    assert time_left([training, evaluation]) == "about 90 s left, then the evaluation"
    training.done = 4
    assert time_left([training, evaluation]) == ""
    assert [duration(seconds) for seconds in (41.3, 720, 11100)] == ["41 s", "12 min", "3 h 05 min"]


def test_a_folder_that_was_moved_is_the_same_benchmark() -> None:
    here, there = (
        grid.read_cells(grid.read(["models=[vae]", "seeds=[0]", f"out={out}"]))[0].config for out in ("a/b", "/c")
    )
    assert here["callbacks"]["best"]["dirpath"] != there["callbacks"]["best"]["dirpath"]
    assert first_difference(here, there) is None
    there["data"]["root"] = "elsewhere"
    assert first_difference(here, there) is None
    there["model"]["optimizer"]["lr"] = 2
    assert first_difference(here, there) == "model.optimizer.lr is 0.001 in the folder and 2 in this command"
