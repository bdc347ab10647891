"""What is logged is on disk when it must be, costs one write, and an earlier file is gone on with."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import Strategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaezoo import loggers
from vaezoo.loggers import CSVLogger, TensorBoardLogger
from vaezoo.runs import Run


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
