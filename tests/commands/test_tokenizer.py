"""experiment=tokenizer trains on a folder of real images, with each of the models that it is for."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

import vaezoo
from tests.conftest import ROOT
from vaezoo import Run
from vaezoo.config import automatic, hydra_config, pretrained
from vaezoo.models.loading import make_on_meta_device
from vaezoo.runs import checkpoints

Program = Callable[..., tuple[int, str]]

SMALL = [
    "experiment=tokenizer",
    "model.widths=[8,8]",
    "model.discriminator_options.start=1",
    "++model.discriminator_options.width=4",
    "data.image_size=32",
    "data.limit=24",
    "data.val_size=4",
    "data.batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_steps=3",
    "trainer.val_check_interval=4",
    "trainer.limit_test_batches=1",
    "trainer.log_every_n_steps=1",
    "evaluation=none",
]
"""Three steps of two batches of four images, the critic from the second step on."""


DISCRETE = {"commitment", "perplexity", "codes_used"}
"""Numbers that only a model with a codebook has."""


@pytest.fixture
def train(real_data: Path, program: Program, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The experiment on real images of 32x32 pixels, into the folder `run`."""
    folder = f"data.root={real_data / 'cifar10-jpg'}"
    return lambda *words: program("train", *SMALL, folder, f"run_dir={tmp_path / 'run'}", *words)


@pytest.mark.parametrize(
    ("model", "least", "most"),
    [
        ("vqgan", 8 * 8 * math.log(512), 8 * 8 * math.log(512)),  # nats of indices, on a grid of 8x8 and 512 codes
        ("autoencoder_kl", 1, math.inf),
    ],
)
def test_it_trains_on_real_images_as_it_says(
    model: str, least: float, most: float, train: Program, tmp_path: Path
) -> None:
    code, printed = train(f"model={model}")
    assert code == 0, printed
    assert "+ 307.2 lite0 + 0.5 ratio generator (from step 1 on)" in printed  # a tenth of 3 * 32 * 32
    run = Run(tmp_path / "run")
    assert (run.summary["status"], run.summary["steps"]) == ("finished", 3)
    assert run.config.trainer.precision == "bf16-mixed"
    assert least * (1 - 1e-6) < run.summary["test"]["kl"] < most * (1 + 1e-6)
    assert run.summary["test"]["perceptual_lite0"] > 0
    check_weights(tmp_path / "run")
    logged = {name.rpartition("/")[2] for row in run.metrics for name in row}
    page = (ROOT / "docs" / "use" / "tokenizers.md").read_text()
    rows = page.partition("| number |")[2].partition("\n\n")[0].splitlines()[2:]
    described = {name for row in rows for name in re.findall(r"`([a-z_0-9]+)`", row.split("|")[1])}
    assert described - logged == ({"logvar_at_bound"} if model == "vqgan" else DISCRETE)


def check_weights(run: Path) -> None:
    """The weights in use are averages, but for the critic's; training resumes from the others."""
    assert not (run / "checkpoints" / "best.ckpt").exists()
    stored = checkpoints.read(run / "checkpoints" / "last.ckpt")
    used, last = stored["state_dict"], stored["current_model_state"]
    moved = {name for name, value in used.items() if not torch.equal(value, last[name])}
    assert "encoder.1.weight" in moved
    assert not [name for name in moved if name.startswith("discriminator.critic")]
    assert torch.equal(vaezoo.load(run).state_dict()["encoder.1.weight"], used["encoder.1.weight"])
    [optimizer] = stored["optimizer_states"]
    steps = {int(state["step"]) for state in optimizer["state"].values()}
    assert steps == {3, 2}  # Adam's, of the model and of the critic that waited for one


@pytest.mark.parametrize("model", ["vqgan", "autoencoder_kl"])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_each_position_of_the_code_stands_for_8x8_pixels(model: str, size: int) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=["experiment=tokenizer", f"model={model}", f"data.image_size={size}"])
    automatic.resolve(cfg)
    made: Any = make_on_meta_device(cfg, (3, size, size))
    assert made.code_shape[1:] == (size // 8, size // 8)
    assert made.perceptual.weight == pytest.approx(0.3 * size**2)
    assert sum(part.numel() for part in made.parameters()) < 30e6


def test_without_the_extra_it_says_what_to_do(train: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    code, printed = train()
    assert code == 1
    assert printed.splitlines()[-1].endswith('to install it: pip install -e ".[perceptual]" in the clone of vaezoo')
    assert not (tmp_path / "run").exists()
