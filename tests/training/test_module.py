"""What models ask of their data: images to start from, once, and labels if they want them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.devices import Labelled
from tests.training.test_stepping import assert_equal_weights, digits, fit, small
from vaezoo.models import Autoencoder
from vaezoo.nn.networks import last_bias
from vaezoo.training.terms import Terms

Program = Callable[..., tuple[int, str]]

# a start from images --------------------------------------------------------------------------------------------------


def counted(model: Autoencoder) -> list[int]:
    """The number of images of each start of a model from now on."""
    starts: list[int] = []
    start_from = model.start_from

    def counting(images: Tensor) -> None:
        starts.append(len(images))
        start_from(images)

    model.start_from = counting  # type: ignore[method-assign]
    return starts


@pytest.mark.parametrize(("kind", "images"), [("vamp_vae", 7), ("vqvae", 144), ("ae", None)])
def test_a_model_starts_from_images_once_in_its_life(
    kind: str, images: int | None, make_model: Callable[..., Autoencoder], tmp_path: Path
) -> None:
    model = make_model(kind, "model.widths=[8]", "model.likelihood=gaussian")
    starts = counted(model)
    trainer = fit(model, "fast", max_epochs=1)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    fit(model, "fast", max_epochs=1)
    assert starts == ([] if images is None else [images])
    resumed, loaded = make_model(kind, "model.widths=[8]", "model.likelihood=gaussian"), type(model)
    starts = counted(resumed)
    fit(resumed, "fast", ckpt_path=tmp_path / "it.ckpt", max_epochs=2)
    again = loaded.load_from_checkpoint(tmp_path / "it.ckpt")
    starts += counted(again)
    fit(again, "fast", max_epochs=1)
    assert starts == []


class Plain(L.LightningDataModule):
    """Random images, and nothing that tells of them."""

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(torch.rand(8, 1, 16, 16), torch.zeros(8)), batch_size=4)


@pytest.mark.parametrize("kind", ["vamp_vae", "vqvae"])
def test_data_that_give_no_images_to_start_from_are_named(
    kind: str, make_model: Callable[..., Autoencoder], caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(kind, "model.widths=[8]", "model.likelihood=gaussian")
    fit(model, "fast", data=Plain(), max_epochs=1)
    assert caplog.text.count("starts from random numbers, because Plain has no examples(count, split)") == 1


@pytest.mark.parametrize(
    ("kind", "network"),
    [("vae", "mlp"), ("ae", "conv"), ("vae", "resnet"), ("conditional_vae", "conv"), ("top_down_vae", "top_down")],
)
def test_an_untrained_decoder_starts_at_the_mean_of_training_images_and_a_trained_one_where_it_is(
    kind: str, network: str, make_model: Callable[..., Autoencoder]
) -> None:
    model = make_model(kind, f"model.network={network}", "model.widths=[8]", "model.likelihood=gaussian")
    data = digits()
    data.setup()
    mean = data.examples(1000, "train")[0].mean(0)
    fit(model, "fast", data=data, max_epochs=0)
    bias = last_bias(model.decoder)
    assert bias is not None
    expected = mean.clamp(0.01, 0.99).flatten() if network == "mlp" else mean.mean((1, 2))
    torch.testing.assert_close(bias.sigmoid(), expected)
    bias.data.zero_()
    model.start_decoder(torch.cat([data.examples(1000, "train")[0], torch.full((1, 1, 16, 16), torch.nan)]))
    torch.testing.assert_close(bias.sigmoid(), expected)
    trained = bias.data.fill_(-1).clone()
    fit(model, "fast", data=data, max_epochs=0)
    assert bias.equal(trained)


# labels ---------------------------------------------------------------------------------------------------------------


class Seeing(Labelled):
    """Keeps the labels that it is given."""

    def loss_terms(self, x: Tensor, labels: Tensor) -> Terms:  # type: ignore[override]
        self.got = [*getattr(self, "got", []), labels.clone()]
        return super().loss_terms(x, labels)


def test_a_model_that_wants_labels_gets_those_of_its_images_either_way() -> None:
    fast, slow = small(Seeing), small(Seeing)
    data = digits(), digits()
    fit(fast, "fast", data=data[0], max_epochs=2)
    trainer = fit(slow, "lightning", data=data[1], max_epochs=2)
    assert_equal_weights(fast, slow)
    assert all(map(torch.equal, fast.got, slow.got))
    assert len(torch.cat(fast.got).unique()) == 10
    assert {"val/distance", "val/loss"} <= trainer.callback_metrics.keys()


@pytest.mark.parametrize("labelled", [True, False])
def test_a_model_that_wants_labels_is_refused_before_training_where_there_are_none(
    labelled: bool, program: Program, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "images" / ("ab"[number % 2] if labelled else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{number}.png")
    settings = ["model._target_=tests.devices.Labelled", "data=image_folder", f"data.root={tmp_path / 'images'}"]
    settings += ["data.image_size=8", "data.channels=1", "data.val_size=8", "data.test_size=8", "model.widths=[8]"]
    settings += [
        "callbacks=none",
        "evaluation=none",
        "trainer.max_epochs=1",
        "data.num_workers=0",
        "model.latent_dim=2",
    ]
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *settings)
    if labelled:
        assert code == 0, printed
        return
    assert code == 1
    assert printed.startswith("error: Labelled needs a label for each image")
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()
