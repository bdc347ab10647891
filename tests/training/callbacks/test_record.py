"""A resume cuts the record back to its checkpoint, however it is interrupted; one that is refused changes nothing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import some
from tests.kills import Nursery, differences
from tests.runs.test_files import small_disk  # noqa: F401
from tests.runs.test_resuming import record_of
from vaezoo import Run
from vaezoo.training.callbacks.record import Rewind

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]

SETTINGS = (
    "model.widths=[16]",
    "data.limit=128",
    "evaluation=none",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=1",
    "callbacks.last.every_n_epochs=2",
    "callbacks.last.min_seconds=0",
    "callbacks.samples.every_n_epochs=1",
    "resume=auto",
)

KILL_IN = """
import os
from pathlib import Path
from vaezoo.training.callbacks import record
calls = []
def counted(function):
    def killed(*arguments, **more):
        calls.append(function)
        if len(calls) == {count}:
            os.kill(os.getpid(), 9)
        return function(*arguments, **more)
    return killed
apply = record.Rewind.apply
def patched(self):
    for module, name in ((Path, 'unlink'), (os, 'truncate'), (record, 'write_rows')):
        setattr(module, name, counted(getattr(module, name)))
    apply(self)
    os.kill(os.getpid(), 9)
record.Rewind.apply = patched
"""


def later(folder: Path) -> None:
    """What a run logs and draws behind its last checkpoint."""
    with (folder / "metrics.csv").open("a") as file:
        file.write((folder / "metrics.csv").read_text().splitlines()[-1] + "\n")
    (folder / "events.out.tfevents.9999999999.host").write_bytes(b"later")
    with next(folder.glob("events.out.tfevents.1*")).open("ab") as file:
        file.write(b"more")
    for picture in (folder / "figures").iterdir():
        (picture / "step=00000099.png").write_bytes(b"later")


@pytest.mark.parametrize("counts", [(4,), pytest.param((*range(1, 9), 99), marks=pytest.mark.nightly)])
def test_a_resume_that_is_killed_while_it_cuts_the_record_ends_as_one_that_was_not(
    counts: tuple[int, ...], nursery: Nursery, tmp_path: Path
) -> None:
    command = ("train", *SETTINGS)
    code, printed = nursery.run(*command, f"run_dir={tmp_path / 'whole'}", log=tmp_path / "log")
    assert code == 0, printed
    run = tmp_path / "run"
    stop = "from vaezoo.models import Autoencoder\nimport os\n"
    stop += "record = Autoencoder.record_step\n"
    stop += (
        "def killed(self, *given):\n    os.kill(os.getpid(), 9) if self.global_step == 14 else record(self, *given)\n"
    )
    stop += "Autoencoder.record_step = killed"
    code, printed = nursery.run(*command, f"run_dir={run}", log=tmp_path / "log", patch=stop)
    assert code == -9, printed
    later(run)
    for count in counts:
        patch = KILL_IN.format(count=count)
        code, printed = nursery.run(*command, f"run_dir={run}", log=tmp_path / "log", patch=patch)
        assert code == -9, printed
    code, printed = nursery.run(*command, f"run_dir={run}", log=tmp_path / "log")
    assert code == 0, printed
    assert differences(tmp_path / "whole", run) == []


def test_a_resume_that_is_killed_before_its_first_step_leaves_the_record(nursery: Nursery, train: Train) -> None:
    run = train("run", "callbacks=default", "trainer.max_epochs=1")
    before = record_of(run.path)
    kill = "import os\nfrom vaezoo.training.callbacks import Resuming\n"
    kill += "Resuming.on_train_start = lambda *given: os.kill(os.getpid(), 9)"
    log = run.path.parent / "log"
    code, printed = nursery.run("train", f"resume={run.path}", "trainer.max_epochs=2", log=log, patch=kill)
    assert code == -9, printed
    after = {path: content for path, content in record_of(run.path).items() if path in before}
    assert after == before
    assert run.summary["status"] == "finished"


def test_what_lies_in_the_folder_of_an_earlier_version_is_left_alone(train: Train, program: Program) -> None:
    """Nothing in a run folder is put in another file's place."""
    run = train("run", "callbacks=default", "trainer.max_epochs=1")
    planted = run.path / ".before" / "checkpoints" / "last.ckpt"
    planted.parent.mkdir(parents=True)
    torch.save({"model_class": "os.system"}, planted)
    (run.path / ".before" / "nosuch").mkdir()
    (run.path / ".before" / "nosuch" / "f").write_text("")
    rows = len(run.metrics)
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    assert len(run.metrics) > rows
    assert planted.is_file()


def test_a_record_is_cut_to_what_it_was_and_only_that(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,step\n1,1\n2,2\n3,")
    (tmp_path / "events.out.tfevents.1").write_bytes(b"0123456789")
    (tmp_path / "events.out.tfevents.2").write_bytes(b"later")
    names = ("step=00000004.png", "step=00000005.png", "step=00000006.svg", "other.png", "step=7x.png")
    for name in names:
        (tmp_path / "figures" / "samples").mkdir(parents=True, exist_ok=True)
        (tmp_path / "figures" / "samples" / name).write_bytes(b"")
    extent = {"rows": 1, "events": {"events.out.tfevents.1": 4, "../elsewhere": 0, "metrics.csv": 0}}
    (tmp_path.parent / "elsewhere").write_text("mine")
    rewind = Rewind(tmp_path, {"global_step": 4, "record": extent})
    (tmp_path / "events.out.tfevents.3").write_bytes(b"of this process")
    assert (tmp_path / "events.out.tfevents.2").exists()
    for _ in range(2):
        rewind.apply()
        assert (tmp_path / "metrics.csv").read_text().split() == ["a,step", "1,1"]
        assert (tmp_path / "events.out.tfevents.1").read_bytes() == b"0123"
        assert not (tmp_path / "events.out.tfevents.2").exists()
        assert (tmp_path / "events.out.tfevents.3").exists()
        left = {path.name for path in (tmp_path / "figures" / "samples").iterdir()}
        assert left == {"step=00000004.png", "other.png", "step=7x.png"}
    assert (tmp_path.parent / "elsewhere").read_text() == "mine"


# full disks ----------------------------------------------------------------------------------------------------------


def fill(disk: Path) -> None:
    """Leave no byte on a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def test_a_disk_that_is_full_when_a_run_is_resumed_loses_nothing(
    small_disk: Path, train: Train, program: Program  # noqa: F811
) -> None:  # fmt: skip
    run = train("run", "trainer.log_every_n_steps=1", "callbacks.last.min_seconds=0")
    with (run.path / "metrics.csv").open("a") as file:
        file.write((run.path / "metrics.csv").read_text().splitlines()[-1] + "\n")
    os.system(f"mount -o remount,size=2m '{small_disk}'")
    shutil.copytree(run.path, small_disk / "run")
    copy = Run(small_disk / "run")
    fill(small_disk)
    before = record_of(copy.path)
    code, printed = program("train", f"resume={copy.path}", "trainer.max_epochs=3")
    assert code == 1
    assert "No space left on device" in printed
    assert f"then resume={copy.path}" in printed
    assert "Traceback" not in printed
    kept = ("metrics.csv", "last.ckpt", "best.ckpt")
    assert {path: text for path, text in record_of(copy.path).items() if path.name in kept} == {
        path: text for path, text in before.items() if path.name in kept
    }
    (small_disk / "ballast").unlink()
    code, printed = program("train", f"resume={copy.path}", "trainer.max_epochs=3")
    assert code == 0, printed
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=3")
    assert code == 0, printed
    assert differences(run.path, copy.path) == []


def test_a_disk_that_fills_before_the_first_step_is_saved_says_to_train_anew(
    small_disk: Path, program: Program, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    from vaezoo.training.callbacks.checkpoints import BestCheckpoint

    write = BestCheckpoint.write

    def write_and_fill(self: Any, trainer: Any) -> None:
        write(self, trainer)
        if (small_disk / "run" / "checkpoints" / "best.ckpt").exists():
            fill(small_disk)

    monkeypatch.setattr(BestCheckpoint, "write", write_and_fill)
    small = ["model.widths=[16]", "callbacks=none", "data.limit=128", "trainer.max_epochs=1", "evaluation=none"]
    code, printed = program("train", f"run_dir={small_disk / 'run'}", *small)
    assert code == 1
    [sentence] = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "last.ckpt: No space left on device" in sentence
    assert "train again in another run_dir" in sentence
    assert "resume" not in sentence
    assert os.system(f"mount -o remount,size=9m '{small_disk}'") == 0
    monkeypatch.undo()
    code, printed = program("train", f"resume={small_disk / 'run'}")
    assert code == 1
    assert "has no last checkpoint" in printed


# folders in a file's place -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    some(
        [
            "summary.json.new",
            "config.yaml.new",
            "metrics.csv",
            "metrics.csv.new",
            "summary.json",
            "evaluation.json",
            "mixture.json",
            "changes.json",
            "train.log",
            "run.lock",
            "checkpoints/last.ckpt.new",
            "checkpoints/previous.ckpt",
            "checkpoints/best.ckpt",
            "figures/samples/step=00000099.png",
            "figures/samples/step=00000008.png.new",
            "events.out.tfevents.1",
        ]
    ),
)
def test_a_folder_in_a_files_place_is_named(name: str, train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    path = run.path / name
    if path.is_file():
        path.unlink()
    path.mkdir(parents=True)
    words = [f"run_dir={run.path}", "model.widths=[16]", "trainer.max_epochs=1", "callbacks=none", "data.limit=128"]
    commands = (
        ["train", f"resume={run.path}", "trainer.max_epochs=2"],
        ["train", *words, "evaluation=none", "resume=auto"],
        ["evaluate", str(run.path), "quick=true"],
    )
    for command in commands:
        code, printed = program(*command)
        assert code == 1, printed
        assert f"{path} is a folder, but a run has a file of that name; move it away" in printed
        assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["checkpoints", "figures", "nonfinite"])
def test_a_file_in_a_folders_place_is_named(name: str, train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    shutil.rmtree(run.path / name, ignore_errors=True)
    (run.path / name).write_text("")
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 1
    assert f"{run.path / name} is a file, but a run has a folder of that name; move it away" in printed


@pytest.mark.parametrize("name", ["train.log", "run.lock", "config.yaml.new", "figures", "nonfinite"])
def test_a_new_run_names_what_stands_in_its_way(name: str, program: Program, tmp_path: Path) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir()
    path.write_text("") if name in ("figures", "nonfinite") else path.mkdir()
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", "trainer.max_epochs=1", "data.limit=128")
    assert code == 1
    assert f"{path} is a fil" in printed or f"{path} is a folder" in printed
    assert "Traceback" not in printed
    assert {each.name for each in (tmp_path / "run").iterdir()} <= {name, "run.lock"}
