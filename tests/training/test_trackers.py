"""Weights & Biases and MLflow, with their real packages and no network: what they get, and how their runs resume."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import loggers

from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.config import extras
from vaezoo.training import trackers
from vaezoo.training.callbacks.pictures import write_picture
from vaezoo.training.trackers import Tracker, WandbLogger
from vaezoo.training.trackers.tracker import REMEMBERED

Program = Callable[..., tuple[int, str]]
Train = Callable[..., Run]

BOTH = "logger=[wandb,mlflow]"
DRAWN = ("callbacks.latent_map=null", "callbacks.latent_kl=null", "callbacks.traversals=null")
SMALL = (
    *("model.widths=[16]", "data.limit=128", "evaluation=none", "trainer.log_every_n_steps=1", "trainer.max_epochs=2"),
    *("callbacks.samples=null", "callbacks.interpolations=null", *DRAWN, "callbacks.reconstructions.every_n_epochs=1"),
    *("callbacks.last.min_seconds=0", "callbacks.last.every_n_steps=1"),
)
"""Four steps an epoch, a checkpoint after each of them, a picture after each epoch."""


def needs(module: str) -> None:
    pytest.importorskip(module, reason=f"needs {module}: {extras.how_to_install('trackers')}")


# what each tracker has ----------------------------------------------------------------------------------------------


def wandb_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of the last W&B file of a run, which is whole."""
    from wandb.proto import wandb_internal_pb2

    rows: dict[int, dict[str, Any]] = {}
    for file in sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"))[-1:]:
        for data in _records(file.read_bytes()[7:]):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                row = rows.setdefault(record.history.step.num, {})
                for item in record.history.item:
                    name, *part = item.nested_key or [item.key]  # of a picture, parts such as its path
                    if not name.startswith("_"):
                        row[name] = {**row.get(name, {}), part[0]: ...} if part else json.loads(item.value_json)
    return [rows[number] for number in sorted(rows)]


def _records(content: bytes) -> Iterator[bytes]:
    """Records of a log of LevelDB's: blocks of 32 KiB, with parts that have 7 bytes of checksum, length and kind."""
    record, at = b"", 0
    while at + 7 <= len(content):
        room = 32768 - (at + 7) % 32768  # the file begins with 7 bytes of its own
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def wandb_numbers(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    until = time.monotonic() + 20  # its own process writes the file, and may be late on a busy machine
    while not (rows := list(wandb_rows(run_dir))) and time.monotonic() < until:
        time.sleep(0.1)
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "trainer/global_step" and not isinstance(value, dict):
                found.setdefault(name, []).append((row["trainer/global_step"], value))
    return found


def mlflow_numbers(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    client, run = mlflow_run(run_dir)
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((each.step, each.value) for each in history) for name, history in histories.items()}


def mlflow_run(run_dir: Path) -> tuple[Any, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run_dir}/mlflow.db")
    (run,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return client, run


def own_numbers(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The same of metrics.csv."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in run.metrics:
        for name in row.keys() - {"step"}:
            found.setdefault(name, []).append((int(row["step"]), row[name]))
    return found


def assert_equal(found: Mapping[str, list[tuple[int, float]]], run: Run) -> None:
    expected = own_numbers(run)
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in sorted(found[name])] == [step for step, _ in sorted(points)], name
        assert np.allclose([value for _, value in sorted(found[name])], [v for _, v in sorted(points)], rtol=1e-5), name


def wandb_pictures(run_dir: Path) -> list[int]:
    rows = [row for row in wandb_rows(run_dir) if isinstance(row.get("figures/reconstructions"), dict)]
    return [row["trainer/global_step"] for row in rows]


def mlflow_pictures(run_dir: Path) -> list[int]:
    client, run = mlflow_run(run_dir)
    paths = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    return sorted(int(path.split("step")[1][1:].partition(path.split("step")[1][0])[0]) for path in paths)


# training ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that both trackers were given, as a process of its own that sees any attempt to use a network."""
    needs("wandb"), needs("mlflow")
    folder = tmp_path_factory.mktemp("both")
    with listening() as (port, heard):
        done = vaezoo("train", f"run_dir={folder / 'run'}", BOTH, *SMALL, proxy=f"http://127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    assert heard == []
    (folder / "printed").write_text(done.stdout)
    return folder / "run"


class listening:
    """A port on which all that connects to it is written down."""

    def __enter__(self) -> tuple[int, list[Any]]:
        self._socket, self._heard = socket.create_server(("127.0.0.1", 0)), []
        threading.Thread(target=self._listen, daemon=True).start()
        return self._socket.getsockname()[1], self._heard

    def _listen(self) -> None:
        try:
            while True:
                connection, address = self._socket.accept()
                self._heard.append((address, connection.recv(200)))
                connection.close()
        except OSError:
            return

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def vaezoo(*words: str, proxy: str | None = None, before: str = "") -> "subprocess.CompletedProcess[str]":
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    environment = {**os.environ, **(dict.fromkeys(names, proxy) if proxy else {}), "NO_PROXY": ""}
    code = f"{before}\nfrom vaezoo.commands.command_line import main; main()"
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_both_at_once_get_every_number_and_the_run_is_finished(both: Path) -> None:
    run = Run(both)
    assert run.summary["status"] == "finished"
    assert_equal(wandb_numbers(both), run)
    assert_equal(mlflow_numbers(both), run)
    assert [step for step, _ in own_numbers(run)["val/elbo"]] == [4, 8]
    assert list(both.glob("events.out.tfevents.*"))


def test_both_get_every_picture(both: Path) -> None:
    assert wandb_pictures(both) == mlflow_pictures(both) == [4, 8]
    assert len(list(both.glob("wandb/offline-run-*/files/media/images/figures/*.png"))) == 2
    assert all(path.is_relative_to(both) for path in both.rglob("*.png"))
    assert len(list(both.glob("mlruns/*/artifacts/images/*.png"))) == 2


def test_both_get_the_config_and_how_the_run_ended(both: Path) -> None:
    _, run = mlflow_run(both)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert {"model.latent_dim": "10", "data.batch_size": "32", "seed": "0"}.items() <= run.data.params.items()
    assert not any(name.startswith(("logger", "callbacks")) for name in run.data.params)
    from wandb.proto import wandb_internal_pb2

    (file,) = both.glob("wandb/offline-run-*/run-*.wandb")
    records = [wandb_internal_pb2.Record.FromString(data) for data in _records(file.read_bytes()[7:])]
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [0]
    config = {item.key: item.value_json for record in records for item in record.config.update}
    assert json.loads(config["model"])["latent_dim"] == 10


def test_how_to_look_at_each_is_printed(both: Path) -> None:
    printed = (both.parent / "printed").read_text()
    remembered = json.loads((both / REMEMBERED).read_text())
    (file,) = both.glob("wandb/offline-run-*")
    assert f"wandb sync {file}" in printed
    assert file.name.endswith(f"-{remembered['wandb']}")
    assert f"mlflow ui --backend-store-uri sqlite:///{both}/mlflow.db" in printed


def test_trackers_do_not_change_the_training(both: Path, program: Program, tmp_path: Path) -> None:
    code, printed = program("train", f"run_dir={tmp_path / 'plain'}", *SMALL)
    assert code == 0, printed
    assert (tmp_path / "plain" / "metrics.csv").read_text() == (both / "metrics.csv").read_text()


KILL = """
import os
from vaezoo.training.callbacks import LastCheckpoint
saved = LastCheckpoint.on_train_batch_end
def on_train_batch_end(self, trainer, *arguments):
    if trainer.global_step == 6:
        os.kill(os.getpid(), 9)
    saved(self, trainer, *arguments)
LastCheckpoint.on_train_batch_end = on_train_batch_end
"""
"""Kills a run in its sixth step, which has been logged but not saved."""


@pytest.mark.nightly
def test_a_killed_run_resumes_into_the_same_runs_with_every_number_once(both: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = vaezoo("train", f"run_dir={folder}", BOTH, *SMALL, before=KILL)
    assert done.returncode == -signal.SIGKILL, done.stderr
    first = json.loads((folder / REMEMBERED).read_text())
    moved = folder.rename(tmp_path / "moved")
    done = vaezoo("train", f"resume={moved}")
    assert done.returncode == 0, done.stderr
    run = Run(moved)
    assert json.loads((moved / REMEMBERED).read_text()) == first
    assert run.summary["status"] == "finished"
    assert own_numbers(run) == own_numbers(Run(both))
    assert_equal(mlflow_numbers(moved), run)
    assert_equal(wandb_numbers(moved), run)
    assert {path.name.rpartition("-")[2] for path in moved.glob("wandb/offline-run-*")} == {first["wandb"]}
    assert wandb_pictures(moved) == mlflow_pictures(moved) == [4, 8]
    assert not folder.exists()


def test_a_setting_that_changes_at_a_resume_is_a_tag_in_mlflow(train: Train, program: Program) -> None:
    needs("mlflow")
    run = train("run", "logger=mlflow", "trainer.max_epochs=1")
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    _, tracked = mlflow_run(run.path)
    assert tracked.data.params["trainer.max_epochs"] == "1"
    assert tracked.data.tags["changed.trainer.max_epochs"] == "2"
    assert run.summary["epochs"] == 2


def test_a_finished_run_that_trains_for_longer_keeps_both_ends_in_mlflow(train: Train, program: Program) -> None:
    needs("mlflow"), needs("wandb")
    run = train("run", BOTH, "trainer.max_epochs=1")
    first = own_numbers(run)
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    assert_equal(wandb_numbers(run.path), run)
    found, now = mlflow_numbers(run.path), own_numbers(run)
    assert [step for step, _ in now["test/elbo"]] == [8]
    assert found["test/elbo"] == first["test/elbo"] + now["test/elbo"]
    assert found["val/elbo"] == now["val/elbo"]


def test_each_run_of_a_sweep_has_a_tracked_run_of_its_own(program: Program, tmp_path: Path) -> None:
    needs("wandb")
    small = ("model.widths=[8]", "callbacks=none", "evaluation=none", "data.limit=64", "trainer.max_epochs=1")
    code, printed = program("train", "-m", "seed=0,1", "logger=wandb", f"run_dir={tmp_path / 'sweep'}", *small)
    assert code == 0, printed
    found = [json.loads(path.read_text())["wandb"] for path in sorted(tmp_path.glob("sweep/*/trackers.json"))]
    assert len(set(found)) == 2
    for path in tmp_path.glob("sweep/*/trackers.json"):
        assert_equal(wandb_numbers(path.parent), Run(path.parent))


def test_one_database_for_several_runs(train: Train, tmp_path: Path) -> None:
    needs("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/all/mlflow.db"
    (tmp_path / "all").mkdir()
    for name in ("one", "two"):
        train(name, "logger=mlflow", f"logger.mlflow.tracking_uri={uri}", "trainer.max_epochs=1")
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("vaezoo").experiment_id])
    assert {run.info.run_name for run in found} == {"one", "two"}
    assert {run.info.artifact_uri.removeprefix("file://").rpartition("/mlruns/")[0] for run in found} == {
        f"{tmp_path}/all"
    }


# what goes wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_one_sentence(package: str, program: Program, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, printed = program("train", f"logger={package}", f"run_dir={tmp_path / 'run'}", "callbacks=none")
    assert code == 1
    assert printed.count("\n") == 1
    assert f'needs the package {package}; to install it: pip install -e ".[trackers]"' in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("logger.mlflow.experimnt=x", "logger.mlflow.experimnt is not a setting; did you mean 'experiment'?"),
        ("logger.mlflow.experiment=3", "logger.mlflow.experiment must be str, got 3 (int)"),
        ("logger.wandb.offline=perhaps", "logger.wandb.offline must be bool, got 'perhaps' (str)"),
    ],
)
def test_settings_of_trackers_are_checked(word: str, sentence: str, program: Program, tmp_path: Path) -> None:
    code, printed = program("train", BOTH, word, f"run_dir={tmp_path / 'run'}")
    assert (code, printed) == (1, f"error: {sentence}\n")


def test_a_tracked_run_that_is_gone_is_one_sentence(train: Train, program: Program, tmp_path: Path) -> None:
    needs("mlflow")
    run = train("run", "logger=mlflow", "trainer.max_epochs=1")
    (run.path / REMEMBERED).write_text(json.dumps({"mlflow": "0" * 32}))
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 1
    assert "error: logger.mlflow cannot open its run: " in printed
    assert f"remove {run.path / REMEMBERED} to start a new one" in printed
    (run.path / REMEMBERED).write_text(json.dumps({"mlflow": "../.."}))
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert (code, "contains no run id for mlflow" in printed) == (1, True)


def test_a_refused_resume_leaves_no_trace_in_a_tracker(both: Path, program: Program) -> None:
    def files() -> list[tuple[Path, int]]:
        return sorted((file, file.lstat().st_mtime_ns) for file in both.rglob("*") if file.name != "run.lock")

    before = files()
    code, _ = program("train", f"resume={both}", "model.widths=[17]", "resume.force=true")
    assert code == 1
    assert files() == before


class Plain(loggers.Logger):
    """A logger as Lightning asks for it: ``log_hyperparams`` takes settings alone."""

    name = version = "plain"

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Nothing."""

    def log_hyperparams(self, params: Any) -> None:  # type: ignore[override]
        self.settings |= params


def test_pictures_reach_any_logger_that_takes_images(tmp_path: Path) -> None:
    class Gallery(Plain):
        def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
            self.settings[key] = (len(images), images[0].shape, step)

    gallery = Gallery()
    trainer: Any = SimpleNamespace(default_root_dir=str(tmp_path), global_step=7, loggers=[gallery, Plain()])
    write_picture(np.zeros((4, 6, 3), np.uint8), "samples", trainer)
    assert gallery.settings == {"figures/samples": (1, (4, 6, 3), 7)}


def test_loggers_that_take_settings_alone_get_them() -> None:
    logger = Plain()
    trackers.fill([logger], {"seed": 0}, {"test/elbo": 1.0}, 8)
    assert logger.settings == {"seed": 0}


def test_a_logger_that_fails_with_the_settings_costs_a_warning() -> None:
    class Failing(Plain):
        def log_hyperparams(self, params: Any) -> None:
            raise ValueError("no connection")

    with pytest.warns(UserWarning, match="Failing rejected the settings: no connection"):
        trackers.fill([Failing()], {"seed": 0}, {}, 8)


def test_lightnings_own_loggers_end_a_run_as_finished(train: Train, tmp_path: Path) -> None:
    needs("mlflow")
    name, path = "lightning.pytorch.loggers.MLFlowLogger", tmp_path / "all.db"
    words = (f"+logger.own._target_={name}", f"+logger.own.tracking_uri='sqlite:///{path}'", "trainer.max_epochs=1")
    assert train("run", *words).summary["status"] == "finished"


def test_a_tracker_that_cannot_end_its_run_costs_a_warning(tmp_path: Path) -> None:
    class Lost(WandbLogger):
        def __init__(self) -> None:
            Tracker.__init__(self, save_dir=str(tmp_path), name=None, run_id=None)
            self._run = self

        def finish(self, **_: Any) -> None:
            raise OSError("no connection")

    with pytest.warns(UserWarning, match=r"logger\.wandb could not end its run: no connection"):
        Lost().close("finished")


@pytest.mark.parametrize("status", ["finished", "interrupted", "failed"])
def test_how_a_block_ends_is_how_its_trackers_are_closed(status: str, tmp_path: Path) -> None:
    closed: list[str] = []

    class Watched(WandbLogger):
        def __init__(self) -> None:
            Tracker.__init__(self, save_dir=str(tmp_path), name=None, run_id=None)

        def close(self, status: str) -> None:
            closed.append(status)

    raised = {"finished": nullcontext(), "interrupted": SystemExit(143), "failed": ValueError("x")}[status]
    expected = pytest.raises(type(raised)) if isinstance(raised, BaseException) else raised
    with expected, trackers.closing([Watched(), Plain()]):
        if isinstance(raised, BaseException):
            raise raised
    assert closed == [status]
