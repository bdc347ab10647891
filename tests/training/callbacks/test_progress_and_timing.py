"""What is shown while training, and what a run cost."""

import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vaezoo import Run
from vaezoo.commands.console import cost_line, unused_line
from vaezoo.distributed.threads import RUNS_AT_ONCE
from vaezoo.models import Autoencoder
from vaezoo.training.callbacks import Cost, ProgressBar
from vaezoo.training.callbacks.pictures import Picture


def test_the_bar_shows_loss_recon_kl_and_images_per_second() -> None:
    bar = ProgressBar()
    bar._speed = 1234.5
    metrics = {"train/loss": 3.0, "train/recon": 2.0, "train/kl": 1.0, "train/lr": 0.1, "val/elbo": 9.0}
    trainer: Any = SimpleNamespace(callback_metrics={name: torch.tensor(value) for name, value in metrics.items()})
    shown = bar.get_metrics(trainer, trainer)
    assert shown == {"loss": "3.00", "recon": "2.00", "kl": "1.00", "images/s": "1,234"}


def test_without_a_terminal_each_validation_is_one_line(
    train: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run = train("run")
    lines = [line for line in (run.path / "train.log").read_text().splitlines() if " val: " in line]
    assert len(lines) == 2
    assert "epoch 1  step 4" in lines[0]
    assert "elbo -" in lines[0]


def test_cost_counts_every_training_image_and_goes_on_after_a_resume(
    train: Callable[..., Run], program: Callable[..., tuple[int, str]]
) -> None:
    run = train("run")
    content = torch.load(run.checkpoint("last"), weights_only=True)["callbacks"]["Cost"]
    assert content["images"] == 2 * 128
    program("train", f"resume={run.path}", "trainer.max_epochs=3")
    again = torch.load(run.checkpoint("last"), weights_only=True)["callbacks"]["Cost"]
    assert again["images"] == 3 * 128
    assert again["seconds"] > content["seconds"]


class Drawing(Picture):
    """A picture whose seconds are set from outside."""

    name = "drawing"

    def draw(self, model: Any, data: Any) -> None:
        raise AssertionError("not drawn here")


def test_validation_and_pictures_are_not_counted_as_training_nor_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 9.0, 20.0])
    monkeypatch.setattr("vaezoo.training.callbacks.timing.time.perf_counter", lambda: next(clock))
    picture = Drawing()
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        callbacks=[picture],
    )
    cost = Cost()
    cost.on_train_start(trainer, trainer)
    cost.on_train_batch_end(trainer, trainer, None, (torch.zeros(50, 1),), 0)
    cost.on_validation_start(trainer, trainer)
    picture.seconds_of_drawing += 4  # within validation
    cost.on_validation_end(trainer, trainer)
    picture.seconds_of_drawing += 3  # after it, as far as this callback is told
    cost.on_train_end(trainer, trainer)
    picture.seconds_of_drawing += 1  # after training
    cost.teardown(trainer, trainer, "fit")
    assert cost.training_seconds == 2 + 11 - 3
    assert cost.validation_seconds == 7 - 4
    assert cost.pictures_seconds == 4 + 3 + 1
    assert cost.seconds == 20 + 1
    assert cost.images_per_second == 5


def test_seconds_of_all_kinds_are_kept_over_a_resume() -> None:
    before, after = Cost(), Cost()
    before.images, before.seconds, before.training_seconds = 10, 9.0, 4.0
    before.validation_seconds, before.pictures_seconds = 3.0, 2.0
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == {
        "images": 10,
        "seconds": 9.0,
        "training_seconds": 4.0,
        "validation_seconds": 3.0,
        "pictures_seconds": 2.0,
        "loader_wait_seconds": 0.0,
        "runs_at_once": 1,
        "sessions": [],
    }


def test_a_run_records_when_it_trained_and_beside_how_many_others(
    train: Callable[..., Run], program: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS_AT_ONCE, "3")
    began = time.time()
    run = train("run", "trainer.max_epochs=1")
    cost = run.summary["cost"]
    assert cost["runs_at_once"] == 3
    ((start, end),) = cost["sessions"]
    assert began < start < end < time.time()
    assert end - start == pytest.approx(cost["seconds"], abs=0.2)
    assert run.summary["environment"]["machine"]
    monkeypatch.delenv(RUNS_AT_ONCE)  # from here it is alone
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    cost = Run(run.path).summary["cost"]
    assert cost["runs_at_once"] == 3  # of a part of its seconds, which cannot be told from the rest
    assert cost["sessions"][0][0] == start
    assert len(cost["sessions"]) == 2


def test_pictures_that_were_drawn_are_timed(train: Callable[..., Run]) -> None:
    cost = train("run", "+callbacks.samples._target_=vaezoo.training.callbacks.Samples").summary["cost"]
    assert 0 < cost["pictures_seconds"] < cost["seconds"]


def test_the_last_line_says_the_shares_of_what_is_not_training() -> None:
    cost = {"seconds": 58.5, "validation_seconds": 2.34, "pictures_seconds": 1.17}
    line = cost_line(cost | {"images_per_second": 1234.5, "peak_memory_bytes": 2**30})
    assert line == "58.5 s of training: validation 4%, pictures 2%; 1,234 images/s, 1,024 MiB peak"


def test_waits_for_images_are_booked_with_training_and_go_on_after_a_resume() -> None:
    loader = SimpleNamespace(waited=0.5)  # before training
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn="fit"),
        sanity_checking=False,
        training=True,
        train_dataloader=loader,
        callbacks=[],
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    cost = Cost()
    cost.on_train_start(trainer, trainer)
    loader.waited += 2.0
    cost.on_validation_start(trainer, trainer)
    cost.on_validation_end(trainer, trainer)
    loader.waited += 1.0
    cost.on_save_checkpoint(trainer, trainer, {})
    assert cost.loader_wait_seconds == 3.0

    resumed = Cost()
    resumed.load_state_dict(cost.state_dict())
    loader.waited = 0.0  # a loader of its own
    resumed.on_train_start(trainer, trainer)
    loader.waited += 4.0
    resumed.on_train_end(trainer, trainer)
    assert resumed.loader_wait_seconds == 7.0


@pytest.mark.parametrize(("active", "said"), [(4.0, True), (5.0, False)])
def test_a_model_that_leaves_most_dimensions_unused_is_told_what_helps(
    active: float, said: bool, make_model: Callable[..., Autoencoder]
) -> None:
    summary = {"val": {"active_units": active}}
    told = unused_line(summary, make_model("beta_vae"))  # of ten dimensions
    assert told.startswith("only 4 of 10 latent dimensions are active") == said
    assert ("a smaller weight of the KL (model.beta)" in told) == said
    assert ("latent_dim" in unused_line(summary, make_model("vae"))) == said
    assert "weight of the KL" not in unused_line(summary, make_model("vae"))  # it has no such setting


def test_a_model_without_a_posterior_is_told_nothing_of_active_dimensions(
    make_model: Callable[..., Autoencoder],
) -> None:
    assert unused_line({"val": {"mse": 0.1}}, make_model("ae")) == ""


def test_a_run_says_at_its_end_that_most_dimensions_are_unused(
    program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    small = ["model.widths=[16]", "trainer.max_epochs=4", "callbacks=none", "data.limit=128", "evaluation=none"]
    code, printed = program("train", f"run_dir={tmp_path / 'off'}", "model=beta_vae", "model.beta=1000", *small)
    assert code == 0
    assert re.search(r"^note +only \d of 10 latent dimensions are active; .*\(model\.beta\)", printed, re.MULTILINE)
    code, printed = program("train", f"run_dir={tmp_path / 'ae'}", "model=ae", *small)
    assert code == 0
    assert "latent dimensions are active" not in printed
