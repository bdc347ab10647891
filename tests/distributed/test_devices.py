"""A run on several devices is the same experiment as on one, whatever starts it, and its processes end together."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import devices
from tests.commands.test_train import interrupt_at
from tests.conftest import ROOT, some
from vaezoo import Run
from vaezoo.config.errors import ConfigError
from vaezoo.distributed import ranks
from vaezoo.distributed.threads import processors
from vaezoo.training import fsdp
from vaezoo.training.module import Loop

Program = Callable[..., tuple[int, str]]

SHORT = ["model.widths=[16]", "callbacks=none", "data.limit=35", "data.batch_size=8", "evaluation=none"]
SHORT += ["trainer.accelerator=cpu"]

pytestmark = pytest.mark.skipif(processors() < 2, reason="two processes want two processors")
shards = pytest.mark.skipif(not fsdp.supported(), reason="trainer=fsdp2 needs a newer torch")
BOTH = [*some(devices.CASES, of=3), *(pytest.param(case, marks=shards) for case in devices.SHARDED)]


def start(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Python's to its end, as if nobody had spoken of ranks and threads before."""
    others = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "OMP_NUM_THREADS")
    plain = {name: value for name, value in os.environ.items() if name not in others}
    environment = {**plain, "PYTHONPATH": str(ROOT), **environment}
    line = [sys.executable, *command]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


# the same experiment -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases that tests ask for, trained by two processes one after another: where the run folders are."""
    folder = tmp_path_factory.mktemp("two")
    tests = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = {"sharded and clipped", *(params["case"] for params in tests if "case" in params)}
    known = [*devices.CASES, *(devices.SHARDED if fsdp.supported() else ())]
    done = start("-m", "tests.devices", str(folder), *(case for case in known if case in asked))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Trains a case in this process, once: its run folder."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "on_before_optimizer_step", devices.keep_first_gradients)

        def train(case: str) -> Path:
            if not (folder / case).exists():
                devices.run(case, folder / case)
            return folder / case

        yield train


def worst(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The largest difference between tensors of the same names, in parts of the largest number in any."""
    assert found.keys() == wanted.keys()
    largest = max(value.abs().max().item() for value in wanted.values() if value.is_floating_point())
    return max((found[name].double() - value.double()).abs().max().item() for name, value in wanted.items()) / largest


@pytest.mark.parametrize("case", BOTH)
def test_two_processes_have_the_losses_gradients_and_weights_of_one(case: str, two: Path, one: Any) -> None:
    alone, rounding = one(case), 1e-2 if case == "bf16" else 1e-5
    assert worst(devices.gradients(two / case), devices.gradients(alone)) < rounding
    found, wanted = Run(two / case), Run(alone)
    weights = [run.model("last", packages=["vaezoo", "tests"]).state_dict() for run in (found, wanted)]
    assert worst(*weights) < 10 * rounding
    assert len(found.metrics) == len(wanted.metrics)
    for row, same in zip(found.metrics, wanted.metrics, strict=True):
        assert row == pytest.approx(same, rel=10 * rounding, abs=1e-5)
    assert [row["step"] for row in found.metrics if "train/loss" in row] == list(range(1, wanted.summary["steps"] + 1))


@pytest.mark.parametrize("case", BOTH)
def test_two_processes_have_the_numbers_of_one_over_uneven_sets(case: str, two: Path, one: Any) -> None:
    found, wanted = Run(two / case).summary, Run(one(case)).summary
    for stage in ("val", "test"):
        assert found[stage] == pytest.approx(wanted[stage], rel=3e-3 if case == "bf16" else 1e-4, abs=1e-5)
    assert found["parameters"] == wanted["parameters"]


@shards
def test_a_model_in_pieces_is_drawn_whole_and_goes_on_on_one_device(
    two: Path, one: Any, program: Program, tmp_path: Path
) -> None:
    figures = []
    for number, folder in enumerate((two / "sharded and clipped", one("sharded and clipped"))):
        run = shutil.copytree(folder, tmp_path / str(number))
        figures.append(sorted(path.relative_to(run) for path in run.glob("figures/*/*.png")))
        settings = ["trainer.strategy=auto", "trainer.devices=1", "trainer.max_epochs=3"]
        assert program("train", f"resume={run}", *settings)[0] == 0
    assert len(figures[0]) == 6
    assert figures[0] == figures[1]
    resumed, whole = (Run(tmp_path / str(number)) for number in (0, 1))
    assert resumed.summary["steps"] == whole.summary["steps"] == 15
    assert worst(resumed.model("last").state_dict(), whole.model("last").state_dict()) < 1e-4


# what starts it, and what it leaves ----------------------------------------------------------------------------------


@pytest.mark.nightly
def test_a_run_of_one_process_that_was_interrupted_goes_on_with_two(
    train: Callable[..., Run], program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*SHORT, "trainer.max_epochs=2", "callbacks.last.every_n_steps=3", "callbacks.last.min_seconds=0"]
    settings += ["trainer.log_every_n_steps=4"]
    whole = train("whole", *settings)
    interrupt_at(monkeypatch, 7)
    assert program("train", f"run_dir={tmp_path / 'part'}", *settings)[0] == 130
    done = start(
        "-m",
        "vaezoo.commands.command_line",
        "train",
        f"resume={tmp_path / 'part'}",
        "trainer.strategy=ddp",
        "trainer.devices=2",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    part = Run(tmp_path / "part")
    assert part.summary["steps"] == whole.summary["steps"] == 10
    assert part.summary["environment"]["threads"] == processors() // 2
    assert part.summary["test"] == pytest.approx(whole.summary["test"], rel=1e-4)
    logged = [[row for row in run.metrics if "train/loss" in row] for run in (part, whole)]
    for row, same in zip(*logged, strict=True):
        assert row == pytest.approx(same, rel=1e-4)


def test_the_further_process_that_lightning_starts_trains(tmp_path: Path) -> None:
    """Lightning adds settings of Hydra's to its command line, which a user may not give."""
    several = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_steps=1")
    done = start(str(ROOT / "train.py"), *SHORT, *several, "data.limit=64", "run_dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Run(tmp_path / "run").summary["steps"] == 1


@pytest.mark.nightly
def test_torchrun_makes_one_run_folder_and_every_file_once(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", str(ROOT / "train.py"), "trainer=ddp"]
    done = start(*torchrun, *SHORT, "callbacks=default", "trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    kinds = sorted(path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file())
    once = ["config.yaml", "metrics.csv", "run.lock", "summary.json", "train.log"]
    assert kinds == sorted([*["checkpoints"] * 2, *["figures"] * 6, *once, next(iter(folder.glob("events*"))).name])
    assert {path.name for path in folder.glob("figures/*/*")} == {"step=00000005.png"}
    for record in (done.stdout, (folder / "train.log").read_text()):
        assert record.count("run folder") >= 1
        assert record.count("objective   recon") == record.count("epoch 1  step 5  val:") == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["environment"]["threads"]) == ("finished", 5, 1)


# what does not suit ---------------------------------------------------------------------------------------------------

BY_PLUGIN = "{_target_: lightning.pytorch.strategies.DDPStrategy, process_group_backend: nccl}"


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["trainer=ddp", "trainer.devices=500"], "trainer.devices=500 asks for more processes than this machine has"),
        (
            ["trainer=ddp", "data.batch_size=1"],
            "data.batch_size=1 leaves some of 2 devices without an image; set it to 2",
        ),
        (["trainer=ddp", "data.eval_batch_size=1"], "data.eval_batch_size=1 leaves some of 2 devices"),
        (["trainer=ddp", f"trainer.strategy={BY_PLUGIN}"], "NCCL connects GPUs, and this run is on the CPU"),
        pytest.param(
            ["trainer=fsdp2", "trainer.strategy.process_group_backend=nccl"],
            "NCCL connects GPUs, and this run is on",
            marks=shards,
        ),
        (
            ["trainer=ddp", "trainer.strategy=ddp_spawn"],
            "train in processes that do not outlive training; use trainer=ddp",
        ),
        (["trainer=fsdp2", "callbacks=ema"], "cannot train a model that has its weights averaged (callbacks=ema)"),
        (["trainer=fsdp2", "compile=true"], "cannot train a model that is compiled as a whole (compile=true)"),
        (
            ["trainer=fsdp2", "model=vqgan", "data.limit=16"],
            "cannot train a model that has a critic, which is used with",
        ),
    ],
)
def test_what_does_not_suit_several_devices_is_named_before_anything_is_written(
    mistake: list[str], sentence: str, program: Program, tmp_path: Path
) -> None:
    refused(program, tmp_path, sentence, "trainer.accelerator=cpu", *mistake)


def test_a_torch_that_is_too_old_for_sharded_weights_is_named(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsdp, "supported", lambda: False)
    sentence = f"trainer=fsdp2 needs torch 2.9 or newer, and this is torch {torch.__version__}; use trainer=ddp"
    refused(program, tmp_path, sentence, "trainer=fsdp2", "trainer.accelerator=cpu")


def refused(program: Program, tmp_path: Path, sentence: str, *settings: str) -> None:
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *settings)
    assert code == 1
    assert printed.startswith("error: ")
    assert sentence in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_machines_on_which_nothing_was_started_are_not_waited_for(program: Program, tmp_path: Path) -> None:
    sentence = (
        "trainer.num_nodes=2 needs a launcher on each machine, but this process was started without one; start it with"
        " torchrun"
        " --nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-id=1 --rdzv-endpoint=FIRST_MACHINE:29500 train.py"
        " ..., or in a SLURM job with srun --nodes=2 --ntasks-per-node=1 python train.py"
    )
    settings = ("trainer.num_nodes=2", "trainer.devices=1", "trainer.accelerator=cpu")
    refused(program, tmp_path, sentence, "trainer=ddp", *settings)
    refused(program, tmp_path, sentence, *settings)


def test_machines_that_were_connected_by_hand_are_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = SimpleNamespace(num_nodes=2, num_devices=1)
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="needs a launcher on each machine"):
        ranks.refuse_machines_without_launcher(trainer)
    monkeypatch.setenv("NODE_RANK", "1")
    ranks.refuse_machines_without_launcher(trainer)


def test_more_gpus_than_there_are_is_named(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    sentence = "trainer.devices=4 asks for more GPUs than this machine has (2); set trainer.devices=2"
    refused(program, tmp_path, sentence, "trainer=ddp", "trainer.devices=4", "trainer.accelerator=gpu")


@pytest.fixture
def started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process believes that it is the first of two that torchrun has started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0}
    for name, value in {**said, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(ranks, "_stores", [])
    monkeypatch.setattr(ranks, "_rounds", count())


@pytest.mark.usefixtures("started_by_torchrun")
def test_devices_that_torchrun_did_not_start_are_named(program: Program, tmp_path: Path) -> None:
    sentence = "torchrun started 2 processes, but trainer.devices=1 times trainer.num_nodes=1 is 1"
    refused(program, tmp_path, sentence, "trainer.accelerator=cpu")


@pytest.mark.usefixtures("started_by_torchrun")
def test_the_first_process_alone_tells_what_went_wrong_in_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ranks, "PATIENCE", 0.3)
    with ranks.agreeing_on(tmp_path) as folder:
        assert folder == tmp_path
    monkeypatch.setenv("RANK", "1")
    assert not ranks.rank_zero_failed_too()  # which is well
    monkeypatch.setenv("RANK", "0")
    assert not ranks.rank_zero_failed_too()
    monkeypatch.setenv("RANK", "1")
    assert ranks.rank_zero_failed_too()


@pytest.mark.usefixtures("started_by_torchrun")
def test_processes_agree_on_the_first_ones_folder_for_each_run_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        with ranks.agreeing_on(folder):
            pass
    monkeypatch.setattr(ranks, "_rounds", count())
    monkeypatch.setenv("RANK", "1")
    for folder in folders:
        with ranks.agreeing_on(tmp_path / "another second") as agreed:
            assert agreed == folder
    assert ranks.RUN_DIR not in os.environ


# how it ends ---------------------------------------------------------------------------------------------------------

DYING = """
import os, signal
from vaezoo.commands.command_line import main
from vaezoo.config.errors import DataError
from vaezoo.training.module import Loop

def bad():
    raise DataError("an image is bad")

how, rank, log = {}, {}, Loop.log_training_if_due

def dying(self):
    if (self.global_step, self.global_rank) == (3, rank):
        os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else bad()
    log(self)

Loop.log_training_if_due = dying
main()
"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("how", "rank", "sentences"),
    [
        (
            "killed",
            1,
            ["error: the process of rank 1 was killed by SIGKILL, and the others cannot continue without it"],
        ),
        ("bad image", 0, ["error: an image is bad"]),
        (
            "bad image",
            1,
            [
                "error in another process: an image is bad",
                "error: the process of rank 1 ended with code 1, and the others cannot continue without it",
            ],
        ),
    ],
)
def test_when_one_process_ends_all_do_and_the_record_says_why(
    how: str, rank: int, sentences: list[str], tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text(DYING.format(repr(how), rank))
    done = start(str(tmp_path / "dying.py"), "train", "trainer=ddp", f"run_dir={tmp_path / 'run'}", *SHORT)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == sentences
    summary = Run(tmp_path / "run").summary
    assert (summary["status"], summary["steps"]) == ("failed", 3)
    assert f"error: {summary['error']}" == sentences[-1]


@pytest.mark.nightly
def test_two_machines_are_one_run(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    settings = [str(ROOT / "train.py"), "trainer=ddp", "trainer.num_nodes=2", *SHORT, "trainer.max_epochs=1"]
    with ThreadPoolExecutor() as pool:
        nodes = [
            pool.submit(start, *torchrun, f"--node-rank={node}", f"--master-port={port}", *settings, cwd=tmp_path)
            for node in (1, 0)
        ]
        second, first = (node.result() for node in nodes)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "run folder" in first.stdout
    assert "run folder" not in second.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert Run(folder).summary["steps"] == 5
