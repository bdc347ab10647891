"""Several processes are one experiment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_two_processes_train_on_the_batches_of_one(tmp_path: Path) -> None:
    settings = ["model=ae", "model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128"]
    settings += ["trainer.accelerator=cpu", "trainer.log_every_n_steps=1"]
    found = {}
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        run_dir = tmp_path / str(devices)
        command = [sys.executable, "train.py", *settings, f"run_dir={run_dir}"]
        command += [f"trainer.devices={devices}", f"trainer.strategy={strategy}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        found[devices] = json.loads((run_dir / "summary.json").read_text())
        assert done.stdout.count("objective   ") == 1
    one, two = found[1], found[2]
    assert one["steps"] == two["steps"] == 8
    for name in ("recon", "mse", "psnr"):
        assert two["test"][name] == pytest.approx(one["test"][name], rel=1e-4)
