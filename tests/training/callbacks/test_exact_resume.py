"""A training that was killed at any checkpoint and gone on with ends as one that was not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import some
from vaezoo import Run
from vaezoo.training.callbacks import checkpoints

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]

SMALL = ("model.widths=[16]", "callbacks=none", "data.limit=128", "evaluation=none", "callbacks.last.min_seconds=0")
FACTOR_VAE = ("model=factor_vae", "model.penalty_options.widths=[8]")
VQVAE = ("model=vqvae", "+model.quantizer_options.size=8")


SETTINGS = [
    ("model.scheduler={name: ReduceLROnPlateau, patience: 0, factor: 0.5, threshold: 0.5}",),
    ("model.scheduler={name: CosineAnnealingLR, T_max: total_steps}",),
    ("trainer.max_steps=10", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=9"),
    ("trainer.val_check_interval=3",),
    (
        *FACTOR_VAE,
        "model.scheduler={name: ReduceLROnPlateau, monitor: val/recon, patience: 0, factor: 0.5, threshold: 0.5}",
    ),
    (*FACTOR_VAE, "model.scheduler={name: OneCycleLR, max_lr: 0.01, total_steps: total_steps}"),
    (*FACTOR_VAE, "trainer.accumulate_grad_batches=2"),
    (*VQVAE, "trainer.accumulate_grad_batches=2"),
    (*VQVAE, "model.quantizer=rvq", "+model.quantizer_options.dropout=true"),
    (*VQVAE, "model=vqvae2", "model.grid_width=8"),
    ("model=soft_intro_vae", "trainer.accumulate_grad_batches=2"),
    (*VQVAE, "model.quantizer=gumbel", "+model.quantizer_options.warmup_steps=6"),
    ("callbacks=ema", "callbacks.ema.decay=0.5", "callbacks.latent_map=null"),
]
"""Whose state a checkpoint has to hold: schedules, accumulated gradients, critics, codebooks, averages."""


@pytest.mark.parametrize("most", [2, pytest.param(30, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("settings", some(((each,) for each in SETTINGS), of=3))
def test_a_run_ends_the_same_from_whichever_checkpoint_it_goes_on(
    settings: tuple[str, ...], most: int, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [each for each in SMALL if not (each == "callbacks=none" and "callbacks=ema" in settings)]
    often = [*small, "callbacks.last.every_n_steps=3", "trainer.max_epochs=3", "trainer.log_every_n_steps=1"]
    often = [each for each in often if each.partition("=")[0] not in [name.partition("=")[0] for name in settings]]
    command = ["train", *often, *settings, "resume=auto"]
    assert program(*command, f"run_dir={tmp_path / 'whole'}")[0] == 0
    for stop in range(1, most + 1):
        folder = tmp_path / f"run{stop}"
        with monkeypatch.context() as patch:
            stop_after(stop, patch)
            code, printed = program(*command, f"run_dir={folder}")
        if code == 0:
            break
        assert code == 130, printed
        code, printed = program(*command, f"run_dir={folder}")
        assert code == 0, printed
        assert same(tmp_path / "whole", folder), f"after the checkpoint of number {stop}"
    assert stop >= min(most, 3)


def stop_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """End a run right behind so many of its ``last.ckpt``."""
    write, written = checkpoints.write, []

    def stopping(trainer: object, checkpoint: object, path: Path, **more: object) -> None:
        write(trainer, checkpoint, path, **more)  # type: ignore[arg-type]
        written.append(path.stem)
        if written.count("last") == count:
            raise KeyboardInterrupt

    patch.setattr(checkpoints, "write", stopping)


def same(one: Path, two: Path) -> bool:
    here, there = (torch.load(Run(folder).checkpoint("last"), weights_only=True) for folder in (one, two))
    state = all(equal(here[name], there[name]) for name in ("state_dict", "optimizer_states", "lr_schedulers"))
    metrics = (one / "metrics.csv").read_text() == (two / "metrics.csv").read_text()
    return state and metrics and Run(one).summary["test"] == Run(two).summary["test"]


def equal(one: Any, other: Any) -> bool:
    """Whether tensors are equal to the bit, and everything else in nested dictionaries and lists too."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def test_a_run_with_averaged_weights_that_is_made_longer_equals_one_that_was_as_long(
    program: Program, tmp_path: Path
) -> None:
    small = [each for each in SMALL if "callbacks" not in each]
    small += ["callbacks=ema", "callbacks.ema.decay=0.5", "callbacks.latent_map=null"]
    for name, epochs in (("long", 4), ("short", 2)):
        assert program("train", *small, f"run_dir={tmp_path / name}", f"trainer.max_epochs={epochs}")[0] == 0
    assert program("train", f"resume={tmp_path / 'short'}", "trainer.max_epochs=4")[0] == 0
    one, two = (Run(tmp_path / name).model("last").state_dict() for name in ("long", "short"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_without_checkpoints_nothing_is_saved(program: Program, tmp_path: Path) -> None:
    none = ["callbacks.best=null", "callbacks.last=null", "trainer.max_epochs=1"]
    assert program("train", f"run_dir={tmp_path / 'run'}", *SMALL[:-1], *none)[0] == 0
    assert not list(tmp_path.rglob("*.ckpt"))


# resume=auto ---------------------------------------------------------------------------------------------------------


def test_auto_begins_a_run_goes_on_with_it_and_leaves_a_finished_one(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    command = ["train", f"run_dir={folder}", *SMALL, "trainer.max_epochs=2"]
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        assert program(*command, "resume=auto")[0] == 130
    code, printed = program(*command, "resume=auto")
    assert code == 0
    assert "epoch 1 " not in printed
    assert "epoch 2 " in printed
    before = (folder / "summary.json").read_text()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # a requeued job's command need not say it
    code, printed = program(*command)
    assert code == 0
    assert f"run_dir={folder} is finished: there is nothing to resume" in printed
    assert (folder / "summary.json").read_text() == before


def test_auto_begins_anew_what_never_came_to_a_checkpoint(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = ["train", f"run_dir={folder}", *SMALL, "trainer.max_epochs=1", "resume=auto"]
    assert program(*command)[0] == 0
    metrics = (folder / "metrics.csv").read_text()
    for name in ("summary.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        (folder / name).unlink()
    (folder / "checkpoints" / "last.ckpt.new").write_text("cut short")
    assert program(*command)[0] == 0
    assert (folder / "metrics.csv").read_text() == metrics
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_auto_refuses_a_run_of_another_config_and_a_folder_named_by_the_time(program: Program, tmp_path: Path) -> None:
    command = ["train", f"run_dir={tmp_path / 'run'}", *SMALL, "trainer.max_epochs=1", "resume=auto"]
    assert program(*command)[0] == 0
    code, printed = program(*command, "model.latent_dim=3")
    assert code == 1
    assert "contains a run with another config (model.latent_dim: 10 -> 3)" in printed
    code, printed = program("train", "resume=auto")
    assert code == 1
    assert "give run_dir=FOLDER" in printed
    assert "Traceback" not in printed


def test_figures_after_a_checkpoint_are_taken_back_in_every_format(
    program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    small = [
        "model.widths=[16]",
        "data.limit=128",
        "evaluation=none",
        "figures.format=pdf",
        "callbacks.last.min_seconds=0",
    ]
    only = [
        f"callbacks.{name}=null"
        for name in ("reconstructions", "interpolations", "traversals", "latent_kl", "latent_map")
    ]
    assert program("train", f"run_dir={run}", *small, *only, "trainer.max_epochs=1")[0] == 0
    last = run / "checkpoints" / "last.ckpt"
    first, early = last.read_bytes(), sorted(path.name for path in run.glob("figures/samples/*"))
    assert [name.partition(".")[2] for name in early] == ["pdf", "png"]
    assert program("train", f"resume={run}", "trainer.max_epochs=2")[0] == 0
    assert len(list(run.glob("figures/samples/*"))) == 4
    (last.parent / "previous.ckpt").unlink(missing_ok=True)
    last.write_bytes(first)
    assert program("train", f"resume={run}", "trainer.max_epochs=2", "callbacks.samples=null")[0] == 0
    assert sorted(path.name for path in run.glob("figures/samples/*")) == early
