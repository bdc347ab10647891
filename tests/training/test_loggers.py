"""What is logged is on disk when it must be, costs one write, and an earlier file is gone on with."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import Strategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from vaezoo import Run
from vaezoo.commands.console import tensorboard_command
from vaezoo.training import loggers
from vaezoo.training.loggers import CSVLogger, TensorBoardLogger


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_can_be_read_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    logger = CSVLogger(save_dir=str(tmp_path))
    for step in (10, 20):
        logger.log_metrics({"loss": step / 4, "epoch": 0}, step=step)
        assert rows(tmp_path)[-1] == {"epoch": "0", "loss": str(step / 4), "step": str(step)}


def test_the_file_is_written_anew_for_new_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, opened, written = loggers.write_rows, [], []
    open_path = Path.open

    def count_writes(path: Path, names: list[str], *arguments: Any) -> None:
        written.append(names)
        write(path, names, *arguments)

    def count_opens(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        opened.append(mode)
        return open_path(path, mode, *arguments, **named)

    monkeypatch.setattr(loggers, "write_rows", count_writes)
    monkeypatch.setattr(Path, "open", count_opens)
    logger = CSVLogger(save_dir=str(tmp_path))
    for step in range(1, 201):
        logger.log_metrics({"train/loss": step, "train/lr": 0.1}, step=step)
        if step % 10 == 0:
            logger.log_metrics({"val/loss": step}, step=step)
    assert written == [["step", "train/loss", "train/lr"], ["step", "train/loss", "train/lr", "val/loss"]]
    assert opened.count("a") == 2
    assert len(opened) <= 6
    assert len(rows(tmp_path)) == 220
    assert rows(tmp_path)[0] == {"step": "1", "train/loss": "1", "train/lr": "0.1", "val/loss": ""}


def test_a_file_that_could_not_be_widened_is_still_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CSVLogger(save_dir=str(tmp_path))
    logger.log_metrics({"a": 1}, step=1)

    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        logger.log_metrics({"b": 2}, step=2)
    assert rows(tmp_path) == [{"a": "1", "step": "1"}]


def test_an_earlier_file_is_continued(tmp_path: Path) -> None:
    first = CSVLogger(save_dir=str(tmp_path))
    for step in range(3):
        first.log_metrics({"a": step}, step=step)
    first.finalize("success")
    again = CSVLogger(save_dir=str(tmp_path))
    again.log_metrics({"a": 30}, step=3)
    again.finalize("success")
    again.log_metrics({"a": 40}, step=2)
    assert [row["a"] for row in rows(tmp_path)] == ["0", "1", "2", "30", "40"]
    assert again.extent() == {"rows": 5}


def test_the_scalars_of_a_step_are_one_event(tmp_path: Path) -> None:
    logger = TensorBoardLogger(save_dir=str(tmp_path))
    added: list[int] = []
    add_event = logger.experiment.file_writer.add_event
    logger.experiment.file_writer.add_event = lambda *arguments: (added.append(arguments[1]), add_event(*arguments))
    for step in (10, 20):
        logger.log_metrics({"train/loss": step / 4, "train/kl": 1.5}, step=step)
    logger.save()
    assert added == [10, 20]
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(10, 2.5), (20, 5.0)]
    assert [event.value for event in events.Scalars("train/kl")] == [1.5, 1.5]


def test_what_was_logged_before_a_checkpoint_is_on_disk_when_it_is_saved(
    train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "FLUSH_SECONDS", 1000)
    save, found = Strategy.save_checkpoint, []

    def look(strategy: Strategy, checkpoint: dict[str, Any], *arguments: Any, **named: Any) -> None:
        events = EventAccumulator(str(tmp_path / "run")).Reload()
        steps = [event.step for event in events.Scalars("train/loss")]
        found.append((steps, [int(row["step"]) for row in rows(tmp_path / "run") if row["train/loss"]]))
        assert steps == list(range(1, checkpoint["global_step"] + 1))
        save(strategy, checkpoint, *arguments, **named)

    monkeypatch.setattr(Strategy, "save_checkpoint", look)
    train("run", "trainer.log_every_n_steps=1")
    assert found[-1] == (list(range(1, 9)), list(range(1, 9)))


def test_a_torn_last_line_is_cut_off_when_a_run_goes_on(tmp_path: Path) -> None:
    before = CSVLogger(save_dir=str(tmp_path))
    for step in (1, 2):
        before.log_metrics({"loss": 0.5}, step=step)
    before.finalize("stopped")
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("0.25")
    after = CSVLogger(save_dir=str(tmp_path))
    after.log_metrics({"loss": 0.125}, step=3)
    after.finalize("done")
    assert rows(tmp_path) == [
        {"loss": "0.5", "step": "1"},
        {"loss": "0.5", "step": "2"},
        {"loss": "0.125", "step": "3"},
    ]


# what TensorBoard shows -----------------------------------------------------------------------------------------------


def test_the_printed_command_makes_tensorboard_name_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        logger = TensorBoardLogger(save_dir=str(tmp_path / "runs" / name))
        logger.log_metrics({"loss": 1.0}, step=1)
        logger.save()
        (tmp_path / "runs" / name / "config.yaml").touch()
    command = tensorboard_command(tmp_path / "runs" / "one")
    assert command == f"tensorboard --logdir {tmp_path / 'runs'}"
    found = EventMultiplexer().AddRunsFromDirectory(command.split()[-1]).Reload().Runs()
    assert set(found) == {"one", "two"}
    monkeypatch.chdir(tmp_path)
    assert tensorboard_command(Path("runs/one")) == "tensorboard --logdir runs"


def test_a_folder_that_is_among_other_things_is_given_alone(tmp_path: Path) -> None:
    for name in ("run", "a run", "a:b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / ".submitit").mkdir()
    assert tensorboard_command(tmp_path / "run") == f"tensorboard --logdir {tmp_path}"
    (tmp_path / "node_modules").mkdir()
    assert tensorboard_command(tmp_path / "run") == f"tensorboard --logdir_spec run:{tmp_path}/run"
    assert tensorboard_command(tmp_path / "a run") == f"tensorboard --logdir_spec 'a run:{tmp_path}/a run'"
    assert tensorboard_command(tmp_path / "a:b") == f"tensorboard --logdir {tmp_path}/a:b"


def test_results_are_in_the_hparams_table_alone_and_the_epoch_is_no_first_chart(train: Callable[..., Run]) -> None:
    run = train("run", "model=beta_vae", "model.optimizer.lr=0.002", "data.batch_size=16")
    events = EventAccumulator(str(run.path)).Reload()
    tags = events.Tags()["scalars"]
    assert sorted(tags)[0] == "test/active_units"
    assert "trainer/epoch" in tags
    assert not [tag for tag in tags if tag.startswith("hp") or "/" not in tag]
    assert all(len(events.Scalars(tag)) == 1 for tag in tags if tag.startswith("test/"))


def test_the_hparams_table_begins_with_what_tells_runs_apart(train: Callable[..., Run]) -> None:
    """TensorBoard sorts settings by name, and shows five of them and five metrics."""
    run = train("run", "model=beta_vae", "model.optimizer.lr=0.002", "data.batch_size=16")
    values = hparams_of(run.path)
    settings = values["_hparams_/session_start_info"].session_start_info.hparams
    shown = {name: settings[name].number_value or settings[name].string_value for name in sorted(settings)[:5]}
    assert shown == {"batch_size": 16, "data": "digits", "epochs": 2, "learning_rate": 0.002, "model": "BetaVAE"}
    assert settings["model/beta"].number_value == 4
    metrics = [info.name.tag for info in values["_hparams_/experiment"].experiment.metric_infos]
    assert metrics[:5] == ["test/elbo", "test/recon", "test/kl", "test/mse", "test/psnr"]
    assert set(metrics) <= set(EventAccumulator(str(run.path)).Reload().Tags()["scalars"])


def test_without_a_test_the_hparams_table_has_the_validation_set(train: Callable[..., Run]) -> None:
    run = train("run", "test=false")
    metrics = [info.name.tag for info in hparams_of(run.path)["_hparams_/experiment"].experiment.metric_infos]
    assert metrics[0] == "val/elbo"
    assert all(metric.startswith("val/") for metric in metrics)


def hparams_of(run_dir: Path) -> dict[str, HParamsPluginData]:
    """What TensorBoard's HParams page reads of a run, by tag."""
    content = EventAccumulator(str(run_dir)).Reload().summary_metadata
    tags = [tag for tag in content if tag.startswith("_hparams_")]
    return {tag: HParamsPluginData.FromString(content[tag].plugin_data.content) for tag in tags}
