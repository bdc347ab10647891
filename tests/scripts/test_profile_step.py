"""Where a step's time goes adds up to the whole, however many steps go in one of Lightning's."""

import json
import re
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import profile_step
from yardstick.callbacks import (
    BACKWARD,
    FORWARD,
    LOADER,
    LOGGING,
    OPTIMISER,
    RANGES,
    REST,
    VALIDATION,
    Clock,
    StepClock,
)


@pytest.mark.nightly
def test_shares_of_a_real_training_add_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    words = ["--load", "digits-mlp", "--steps", "30", "--threads", "1", "--out", str(trace)]
    assert profile_step.main(words) == 0
    printed = capsys.readouterr().out
    assert "One optimiser step, mean of 30" in printed
    shares = {name: float(re.search(rf"{name} *│ +[\d.]+ │ +([\d.]+) │", printed).group(1)) for name in RANGES}  # type: ignore[union-attr]
    assert sum(shares.values()) == pytest.approx(100, abs=0.05 * len(RANGES) + 0.01)
    for name in (FORWARD, BACKWARD, OPTIMISER, LOADER):
        assert shares[name] > 0, name
    assert "Optimizer.step" in printed
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {FORWARD, BACKWARD, OPTIMISER, LOADER} <= names


def test_a_moment_belongs_to_the_innermost_range() -> None:
    times = iter(float(second) for second in range(100))
    clock = Clock(now=lambda: next(times))
    clock.reset()
    with clock.range(OPTIMISER), clock.range(FORWARD):  # a second between any two looks at the clock
        pass
    assert clock.read() == {**dict.fromkeys(RANGES, 0.0), REST: 2.0, OPTIMISER: 2.0, FORWARD: 1.0}


def test_validation_is_one_thing_whatever_happens_in_it() -> None:
    times = iter(float(second) for second in range(100))
    clock = Clock(now=lambda: next(times))
    clock.reset()
    with clock.range(VALIDATION), clock.range(LOGGING):
        pass
    assert clock.read()[VALIDATION] == 1.0
    assert clock.read()[LOGGING] == 0.0


class ThreeAtOnce(L.LightningModule):
    """Takes three optimiser steps in each of Lightning's."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        for _ in range(3):
            optimizer.zero_grad()  # type: ignore[union-attr]
            self.manual_backward(self.layer(batch[0]).square().mean())
            optimizer.step()  # type: ignore[union-attr]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_every_optimiser_step_counts(tmp_path: Path) -> None:
    clock = StepClock(str(tmp_path / "found.json"), steps=30)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    step = torch.autograd.backward
    trainer.fit(ThreeAtOnce(), DataLoader(TensorDataset(torch.zeros(40, 4)), batch_size=4))
    found = json.loads((tmp_path / "found.json").read_text())
    assert trainer.global_step == 90
    assert found["steps"] == 30
    calls = {one["name"]: one["calls"] for one in found["operators"]}
    assert calls["Optimizer.step#SGD.step"] == pytest.approx(1)
    assert found["seconds"][BACKWARD] > 0
    assert torch.autograd.backward is step


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--load", "mnist"], "there is no load 'mnist'; choose from mnist-mlp"),
        (["--data-root", "/nowhere"], "MNIST is not in /nowhere; run: python scripts/prepare_data.py mnist --root"),
        (["--out", "/nowhere/trace.json"], "cannot write to --out /nowhere/trace.json: there is no folder /nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_step.main(words) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {sentence}")
    assert len(printed.splitlines()) == 1
