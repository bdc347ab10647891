"""What Lightning's users do with any module works with these: load_from_checkpoint, validate, test, predict."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import ROOT
from vaezoo import BetaVAE, ImageDataModule, Run
from vaezoo.distributed.batch_shares import BatchShare
from vaezoo.models.base import Prediction

PLAIN = """
import json, sys
from pathlib import Path
import lightning.pytorch as L
from vaezoo import BetaVAE, ImageDataModule

data = ImageDataModule(
    source="digits", image_size=8, channels=1, val_size=50, test_size=5, limit=35, batch_size=8, eval_batch_size=4
)
L.seed_everything(0, verbose=False)
model = BetaVAE(image_shape=(1, 8, 8), latent_dim=3, widths=[16])
trainer = L.Trainer(
    max_epochs=1, accelerator="cpu", devices=int(sys.argv[1]), strategy=sys.argv[2], logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
)
trainer.fit(model, datamodule=data)
(metrics,) = trainer.test(model, datamodule=data, verbose=False)
(validated,) = trainer.validate(model, datamodule=data, verbose=False)
codes = sum(len(each.code) for each in trainer.predict(model, datamodule=data))
Path(sys.argv[3], f"{trainer.global_rank}.json").write_text(json.dumps({"codes": codes, **validated, **metrics}))
"""
"""A plain script: on so many devices by such a strategy, each process writes what it got into a folder."""

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


@pytest.fixture
def data() -> ImageDataModule:
    return ImageDataModule(
        source="digits", image_size=8, channels=1, val_size=50, test_size=23, limit=64, eval_batch_size=10
    )


@pytest.fixture
def model() -> BetaVAE:
    return BetaVAE(image_shape=(1, 8, 8), latent_dim=3, widths=[16], beta=2.5)


def fitted(model: L.LightningModule, data: ImageDataModule, folder: Path, **more: Any) -> L.Trainer:
    trainer = L.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **{**QUIET, **more})
    trainer.fit(model, datamodule=data)
    return trainer


def test_a_checkpoint_of_a_plain_trainer_loads_as_lightning_loads(
    model: BetaVAE, data: ImageDataModule, tmp_path: Path
) -> None:
    trainer = fitted(model, data, tmp_path)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = BetaVAE.load_from_checkpoint(tmp_path / "it.ckpt")
    assert again.beta == 2.5
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again.eval().reconstruct(x), model.eval().reconstruct(x))
    # and it can be trained from its beginning
    assert fitted(again, data, tmp_path).global_step == 1


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_of_a_run_loads_as_lightning_loads(name: str, train: Callable[..., Run]) -> None:
    run = train("run", "model=beta_vae", "callbacks=default", "model.beta=3", "trainer.max_epochs=1")
    model = BetaVAE.load_from_checkpoint(run.path / "checkpoints" / f"{name}.ckpt")
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(model.eval().reconstruct(x), run.model(name).reconstruct(x))
    assert model.beta == 3


def test_test_and_validate_return_their_metrics_and_print_them(
    model: BetaVAE, data: ImageDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = fitted(model, data, tmp_path)
    for stage, measure in (("val", trainer.validate), ("test", trainer.test)):
        capsys.readouterr()
        (metrics,) = measure(model, datamodule=data)
        assert f"{stage}/elbo" in capsys.readouterr().out
        expected = {f"{stage}/{name}" for name in ("loss", "recon", "kl", "elbo", "mse", "psnr", "active_units")}
        assert expected <= metrics.keys()
        assert metrics[f"{stage}/elbo"] == pytest.approx(-metrics[f"{stage}/recon"] - metrics[f"{stage}/kl"])
        assert metrics.items() <= {name: float(value) for name, value in trainer.callback_metrics.items()}.items()


def test_a_plain_test_has_the_numbers_of_the_run(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train("run", "model=beta_vae", "callbacks=default", "data.test_size=23", "data.eval_batch_size=10")
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **QUIET)
    (metrics,) = trainer.test(run.model(), datamodule=run.data(), verbose=False)
    assert metrics == pytest.approx({f"test/{name}": value for name, value in run.summary["test"].items()}, rel=1e-6)


def test_loggers_get_what_a_test_measured_once(model: BetaVAE, data: ImageDataModule, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="log")
    trainer = fitted(model, data, tmp_path, logger=logger)
    trainer.test(model, datamodule=data, verbose=False)
    rows = (tmp_path / "log" / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("test/elbo")
    assert sum(bool(row.split(",")[place]) for row in rows[1:]) == 1


def test_the_record_of_a_run_has_one_row_of_test_numbers_and_no_validation_after_training(
    train: Callable[..., Run],
) -> None:
    rows = train("run", "model=beta_vae", "trainer.max_epochs=3").metrics
    assert [row["step"] for row in rows if "val/elbo" in row] == [4, 8, 12]
    assert [row["step"] for row in rows if "test/elbo" in row] == [12]


def test_predict_gives_codes_and_reconstructions_of_the_test_images_in_order(
    model: BetaVAE, data: ImageDataModule, tmp_path: Path
) -> None:
    trainer = fitted(model, data, tmp_path)
    found: Any = trainer.predict(model, datamodule=data)
    assert [type(each) for each in found] == [Prediction] * 3
    x, _ = data.examples(23, "test")
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([each.code for each in found]), model.encode(x))
        torch.testing.assert_close(torch.cat([each.reconstruction for each in found]), model.reconstruct(x))


@pytest.mark.parametrize("labelled", [True, False])
def test_predict_takes_any_loader(labelled: bool, model: BetaVAE, tmp_path: Path) -> None:
    x = torch.rand(5, 1, 8, 8)
    images: Any = TensorDataset(x, torch.zeros(5)) if labelled else list(x)
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **QUIET)
    found: Any = trainer.predict(model, DataLoader(images, batch_size=2))
    assert [len(each.code) for each in found] == [2, 2, 1]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([each.code for each in found]), model.encode(x))


@pytest.mark.parametrize("size", [0, 1])
def test_predict_leaves_a_stand_in_out(size: int, model: BetaVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BetaVAE, "_share_of", lambda self, batch: batch[2])
    batch: list[Tensor | BatchShare] = [torch.rand(1, 1, 8, 8), torch.zeros(1), BatchShare(0, size, 1, 2)]
    found = model.predict_step(batch, 0)
    assert len(found.code) == len(found.reconstruction) == size


def test_a_second_call_says_nothing_of_callbacks_that_are_replaced(
    model: BetaVAE, data: ImageDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = fitted(model, data, tmp_path)
    with caplog.at_level("INFO", "lightning.pytorch"):
        trainer.test(model, datamodule=data, verbose=False)
    assert "override existing callbacks" not in caplog.text


@pytest.mark.nightly
def test_two_devices_get_the_exact_means_of_one(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"  # a file, as Lightning starts further processes by it
    script.write_text(PLAIN)
    (one,), two = told(script, "1", "auto"), told(script, "2", "ddp")
    assert one.pop("codes") == sum(each.pop("codes") for each in two) == 5
    assert two[0] == two[1] == pytest.approx(one, rel=1e-5)


def told(script: Path, *arguments: str) -> list[dict[str, float]]:
    folder = script.parent / "-".join(arguments)
    folder.mkdir()
    command = [sys.executable, str(script), *arguments, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_predict_takes_a_loader_of_the_data_module(model: BetaVAE, data: ImageDataModule, tmp_path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, **QUIET)
    one: Any = trainer.predict(model, datamodule=data)
    other: Any = trainer.predict(model, data.test_dataloader())
    assert all(torch.equal(a.code, b.code) for a, b in zip(one, other, strict=True))
