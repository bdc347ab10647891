"""Pictures come when they should, show what the model does at that moment, and training does not notice them."""

import errno
import inspect
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import ROOT
from vaezoo import figures
from vaezoo.config.errors import ConfigError
from vaezoo.data.images import Factor
from vaezoo.figures.planes import FEWEST, Limits
from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.models import AE, FSQVAE, RVQVAE, VAE, VQVAE, VQVAE2, Autoencoder, CategoricalVAE, ConditionalVAE
from vaezoo.training.callbacks import images as image_pictures
from vaezoo.training.callbacks import pictures
from vaezoo.training.callbacks.images import Interpolations, Levels, Reconstructions, Samples, Traversals
from vaezoo.training.callbacks.indices import IndexMaps, in_words
from vaezoo.training.callbacks.latents import PRIOR_DRAWS, LatentKL, LatentMap, decoded_plane, labels_of
from vaezoo.training.callbacks.pictures import Picture, undisturbed

PICTURES = (Reconstructions, Interpolations, Samples, Traversals, LatentKL, LatentMap)
YAML = ROOT / "configs" / "callbacks" / "_pictures.yaml"


class RandomImages(L.LightningDataModule):
    """Noise with labels: 32 images to train on and 20 to validate with, four steps an epoch."""

    def __init__(self, shape: tuple[int, int, int] = (1, 8, 8), labels: Tensor | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.x = torch.rand(52, *shape, generator=generator)
        self.y = torch.arange(52) % 3 if labels is None else labels
        self.factors = (Factor("kind", ("a", "b", "c")),)

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.x[:32], self.y[:32]), batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(self.x[32:], self.y[32:]), batch_size=10)

    def examples(self, count: int, split: str = "val") -> tuple[Tensor, Tensor]:
        of_split = {"train": slice(32), "val": slice(32, None)}[split]
        return self.x[of_split][:count], self.y[of_split][:count]


class Restless(VAE):
    """A VAE with what depends on mode and random state, and a part that stays in evaluation mode."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.encoder = nn.Sequential(self.encoder, nn.BatchNorm1d(2 * self.latent_dim), nn.Dropout(0.2))
        self.frozen = nn.Dropout(0.5).eval()

    def decode(self, code: Tensor) -> Tensor:
        torch.rand(1)
        return super().decode(code)


class Recorder(Picture):
    """Keeps what it was shown instead of drawing."""

    name = "recorder"

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__(every_n_epochs=every_n_epochs)
        self.weights: list[Tensor] = []
        self.modes: list[bool] = []

    def draw(self, model: Any, data: Any) -> None:
        self.weights.append(torch.cat([value.flatten() for value in model.parameters()]).clone())
        self.modes.append(model.training or torch.is_grad_enabled())


def small(
    kind: type[Autoencoder] = VAE, shape: tuple[int, int, int] = (1, 8, 8), latent_dim: int | None = 2, **more: Any
) -> Any:
    torch.manual_seed(0)
    return kind(image_shape=list(shape), latent_dim=latent_dim, widths=[16], **more)


def train(
    model: Any, callbacks: list[Any], folder: Path, data: Any = None, resume: Path | None = None, **settings: Any
) -> L.Trainer:
    settings = {"max_epochs": 2, "logger": False, "enable_checkpointing": False} | settings
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            default_root_dir=folder,
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
            **settings,
        )
        trainer.fit(model, datamodule=data or RandomImages(), ckpt_path=resume, weights_only=True)
    return trainer


def written(folder: Path) -> dict[str, list[int]]:
    """Steps of the pictures in a run folder, by name."""
    steps: dict[str, list[int]] = {}
    for path in sorted(folder.glob("figures/*/step=*.png")):
        steps.setdefault(path.parent.name, []).append(int(path.stem.removeprefix("step=")))
    return steps


# that they come ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VAE, AE])
@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 9)])
def test_every_picture_is_written_for_any_model_code_and_image(
    kind: type[Autoencoder], latent_dim: int, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    train(small(kind, shape, latent_dim), [p(every_n_epochs=1) for p in PICTURES], tmp_path, RandomImages(shape))
    expected = {picture.name: [4, 8] for picture in PICTURES}
    if kind is AE:
        del expected["latent_kl"]  # there is none
    assert written(tmp_path) == expected


@pytest.mark.parametrize(
    "labels", [torch.full((52,), -1), torch.stack([torch.zeros(52, dtype=torch.int64), torch.arange(52) % 40], dim=1)]
)
def test_images_without_labels_and_with_several_factors_have_pictures_too(labels: Tensor, tmp_path: Path) -> None:
    train(small(), [p(every_n_epochs=0) for p in PICTURES], tmp_path, RandomImages(labels=labels))
    assert written(tmp_path) == {picture.name: [8] for picture in PICTURES}


def test_tensorboard_gets_the_very_same_file_under_the_same_step(tmp_path: Path) -> None:
    loggers = [TensorBoardLogger(tmp_path, name="", version="tb"), TensorBoardLogger(tmp_path, name="", version="tb2")]
    train(small(), [Reconstructions(every_n_epochs=1)], tmp_path, logger=loggers)
    for logger in loggers:
        events = EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
        shown = events.Images("figures/reconstructions")
        assert [event.step for event in shown] == [4, 8]
        path = tmp_path / "figures" / "reconstructions" / "step=00000008.png"
        file = Image.open(path)
        assert shown[-1].encoded_image_string == path.read_bytes()
        assert (shown[-1].width, shown[-1].height) == file.size
        assert file.size[0] > 300


def test_titles_name_model_data_and_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []

    def keep(figure: Any) -> np.ndarray:
        titles.append(figure.texts[0].get_text())
        return figures.raster(figure)

    monkeypatch.setattr(pictures, "raster", keep)
    train(small(), [picture(every_n_epochs=0) for picture in PICTURES], tmp_path, max_epochs=1)
    assert len(titles) == len(PICTURES)
    for title in titles:
        assert title.endswith(": VAE on RandomImages, step 4")


def test_a_data_set_with_a_very_long_name_is_shortened_in_a_title() -> None:
    class Named(RandomImages):
        def describe(self) -> dict[str, Any]:
            return {"name": "n" * 200}

    assert Samples().subject(small(), Named()) == "VAE on " + "n" * 39 + "…"


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_pictures_are_written_as_vectors_beside_a_png_of_the_resolution_asked_for(kind: str, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="tb")
    chosen = [picture(every_n_epochs=0, dpi=200, format=kind) for picture in PICTURES]
    train(small(), chosen, tmp_path, max_epochs=1, logger=logger)
    train(small(), [Samples(every_n_epochs=0)], tmp_path / "usual", max_epochs=1)
    for name in (picture.name for picture in PICTURES):
        png, vector = (tmp_path / "figures" / name / f"step=00000004.{suffix}" for suffix in ("png", kind))
        assert vector.read_bytes().startswith(b"%PDF" if kind == "pdf" else b"<?xml")
        assert sorted(path.name for path in png.parent.iterdir()) == sorted([png.name, vector.name])
    usual = Image.open(tmp_path / "usual" / "figures" / "samples" / "step=00000004.png")
    larger = Image.open(tmp_path / "figures" / "samples" / "step=00000004.png")
    assert larger.size[0] > 1.5 * usual.size[0]
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0}).Reload()
    assert events.Images("figures/samples")[0].encoded_image_string.startswith(b"\x89PNG")


def test_a_vector_file_that_cannot_be_written_costs_a_warning_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr(pictures, "write_vector", fail)
    with pytest.warns(UserWarning, match="no pdf of samples at step 4: no room"):
        train(small(), [Samples(every_n_epochs=0, format="pdf")], tmp_path, max_epochs=1)
    assert written(tmp_path) == {"samples": [4]}
    assert not list(tmp_path.rglob("*.pdf*"))


@pytest.mark.parametrize(
    ("every", "settings", "steps"),
    [
        (1, {"max_epochs": 3}, [4, 8, 12]),
        (2, {"max_epochs": 5}, [8, 16, 20]),
        (0, {"max_epochs": 3}, [12]),
        (100, {"max_epochs": 2}, [8]),
        (1, {"max_epochs": -1, "max_steps": 6}, [4, 6]),
        (1, {"max_epochs": 2, "val_check_interval": 0.5}, [2, 6, 8]),
        (2, {"max_epochs": 6, "check_val_every_n_epoch": 3}, [12, 24]),
        (1, {"max_epochs": 2, "limit_val_batches": 0}, [8]),
        (1, {"fast_dev_run": True}, []),
    ],
)
def test_pictures_come_every_so_many_epochs_and_once_at_the_end(
    every: int, settings: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    train(small(), [Samples(count=2, every_n_epochs=every)], tmp_path, **settings)
    assert written(tmp_path).get("samples", []) == steps


def test_by_default_pictures_are_so_many_steps_apart_however_short_an_epoch_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "STEPS_APART", 6)
    train(small(), [Samples(count=2)], tmp_path, max_epochs=6)  # of four steps
    assert written(tmp_path)["samples"] == [8, 12, 20, 24]


def test_validating_outside_of_training_draws_nothing(tmp_path: Path) -> None:
    model = small()
    trainer = train(model, [Samples(count=2, every_n_epochs=1)], tmp_path, max_epochs=1)
    (tmp_path / "figures" / "samples" / "step=00000004.png").unlink()
    trainer.validate(model, datamodule=RandomImages(), verbose=False)
    assert written(tmp_path) == {}


def test_averaged_weights_are_in_the_model_while_it_is_drawn(tmp_path: Path) -> None:
    recorder, average = Recorder(), EMAWeightAveraging(decay=0.5)
    model = small()
    train(model, [recorder, average], tmp_path, max_epochs=2)
    averages = [value for name, value in average._average_model.named_parameters() if name.startswith("module.")]  # type: ignore[union-attr]
    assert torch.equal(recorder.weights[-1], torch.cat([value.detach().flatten() for value in averages]))
    plain = Recorder()
    train(small(), [plain], tmp_path, max_epochs=2)
    assert not torch.equal(recorder.weights[0], plain.weights[0])


# that training does not notice ---------------------------------------------------------------------------------------


def test_training_with_pictures_ends_at_the_very_same_weights(tmp_path: Path) -> None:
    pictured, plain = small(Restless), small(Restless)
    torch.manual_seed(1)
    train(pictured, [p(every_n_epochs=1) for p in PICTURES], tmp_path / "pictured", val_check_interval=2)
    after = torch.rand(1)
    torch.manual_seed(1)
    train(plain, [], tmp_path / "plain", val_check_interval=2)
    assert torch.equal(after, torch.rand(1))
    assert len(written(tmp_path / "pictured")) == len(PICTURES)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, pictured.state_dict()[name]), name


def test_each_submodule_gets_its_own_mode_back_and_is_in_evaluation_mode_meanwhile() -> None:
    model = small(Restless).train()
    model.frozen.eval()
    before = [module.training for module in model.modules()]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not model.encode(torch.rand(2, 1, 8, 8)).requires_grad
        np.random.rand()  # noqa: NPY002
    assert [module.training for module in model.modules()] == before
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_pictures_are_drawn_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    recorder = Recorder()
    train(small(), [recorder], tmp_path, max_epochs=1, limit_val_batches=0)
    assert recorder.modes == [False]


class BrokenExamples(RandomImages):
    """Examples that no model can make sense of; the trainer's own batches are fine."""

    def examples(self, count: int, split: str = "val") -> tuple[Tensor, Tensor]:
        x, y = super().examples(count, split)
        return x * torch.nan, y


@pytest.mark.parametrize("picture", [p for p in PICTURES if p not in (LatentKL, Samples)])
def test_values_that_are_not_finite_cost_a_warning_and_not_the_run(picture: type[Picture], tmp_path: Path) -> None:
    settings = {"max_epochs": 1, "num_sanity_val_steps": 0}
    with pytest.warns(UserWarning, match=f"no picture of {picture.name} at step 4: .* not finite"):
        train(small(), [picture(every_n_epochs=1)], tmp_path, BrokenExamples(), **settings)
    assert written(tmp_path) == {}


class Failing(Samples):
    """Draws random numbers, leaves a module in another mode, and fails."""

    error: BaseException

    def draw(self, model: Any, data: Any) -> Any:
        torch.rand(3)
        model.encoder.train()
        raise self.error


def draw_with_a_failure(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every picture fail where it is drawn in memory, where it is written, or where it is handed to a logger."""

    def fail(*_: Any, **__: Any) -> Any:
        torch.rand(3)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if where == "save" else AttributeError(f"{where} failed")

    targets = {"raster": (pictures, "raster"), "save": (Image.Image, "save"), "add_png": (pictures, "add_png")}
    monkeypatch.setattr(*targets[where], fail)


def weights_after_training(folder: Path, *callbacks: Any, logger: Any = False) -> dict[str, Tensor]:
    torch.manual_seed(1)
    model = small(Restless)
    train(model, list(callbacks), folder, logger=logger)
    return {**model.state_dict(), "random": torch.rand(1)}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TypeError("wrong call"), "TypeError: wrong call"),
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "RuntimeError: CUDA out of memory. Tried to allocate"),
        (MemoryError(), "MemoryError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: .* No space left on device"),
        (torch.linalg.LinAlgError("no convergence"), "no convergence"),  # type: ignore[attr-defined]
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_picture_that_cannot_be_drawn_is_told_and_training_ends_as_without_it(
    error: Exception, told: str, tmp_path: Path
) -> None:
    picture = Failing(every_n_epochs=1)
    picture.error = error
    with pytest.warns(UserWarning, match="no picture") as warned:
        failed = weights_after_training(tmp_path / "failed", picture, Reconstructions(every_n_epochs=1))
    found = [str(each.message) for each in warned if "no picture" in str(each.message)]
    assert len(found) == 2
    for message, step in zip(found, (4, 8), strict=True):
        assert re.fullmatch(f"no picture of samples at step {step}: .*{told}", message)
    assert written(tmp_path / "failed") == {"reconstructions": [4, 8]}  # the others come
    assert_equal(failed, weights_after_training(tmp_path / "plain"))


@pytest.mark.parametrize("where", ["raster", "save", "add_png"])
def test_a_picture_that_cannot_be_written_is_told_and_training_ends_as_without_it(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = weights_after_training(tmp_path / "plain")
    draw_with_a_failure(where, monkeypatch)
    logger = TensorBoardLogger(tmp_path, name="", version="tb")
    told = "cannot write .*No space left on device" if where == "save" else f"AttributeError: {where} failed"
    with pytest.warns(UserWarning, match=f"no picture of samples at step 4: {told}"):
        failed = weights_after_training(tmp_path / "failed", Samples(every_n_epochs=1), logger=logger)
    assert_equal(failed, plain)
    if where != "add_png":
        assert not list((tmp_path / "failed").rglob("*.png*"))  # no part of one either


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_picture_does_not_swallow_what_ends_the_program(stop: type[BaseException], tmp_path: Path) -> None:
    picture = Failing(every_n_epochs=1)
    picture.error = stop()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(small(), [picture], tmp_path)


def test_a_datamodule_without_examples_is_refused_before_training(tmp_path: Path) -> None:
    data = L.LightningDataModule.from_datasets(TensorDataset(torch.rand(8, 1, 8, 8), torch.zeros(8)))
    with pytest.raises(ConfigError, match=r"callbacks\.samples needs a datamodule"):
        train(small(), [Samples()], tmp_path, data)


@pytest.mark.parametrize(
    ("picture", "settings"),
    [
        (Samples, {"every_n_epochs": -1}),
        (Reconstructions, {"count": 0}),
        (Interpolations, {"steps": 1}),
        (Traversals, {"extent": 0}),
        (LatentMap, {"grid": 1}),
        (LatentMap, {"dpi": 20}),
        (LatentKL, {"dpi": 5000}),
        (Samples, {"format": "jpg"}),
    ],
)
def test_impossible_settings_are_refused_by_their_key(picture: Any, settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"callbacks.{picture.name}.{name} must be"):
        picture(**settings)


@pytest.mark.parametrize("kind", [VAE, CategoricalVAE])
def test_a_model_without_levels_has_no_picture_of_them(kind: type[Autoencoder]) -> None:
    assert Levels().figure(small(kind, latent_dim=None if kind is CategoricalVAE else 2), RandomImages()) is None


def test_the_yaml_lists_every_picture_under_its_name() -> None:
    nodes = OmegaConf.load(YAML)
    assert set(nodes) == {picture.name for picture in (*PICTURES, IndexMaps, Levels)}
    settings = OmegaConf.create({"figures": {"dpi": 150, "format": "svg"}})
    for name, node in OmegaConf.merge(settings, nodes).items():
        if name != "figures":
            made = instantiate(node)
            assert (made.name, made.dpi, made.format) == (name, 150, "svg")


# what they show ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Picture, Any], dict[str, Any]]:
    """The arguments that a picture hands to its figure: shown(Samples(), model)["images"]."""
    found: dict[str, Any] = {}

    def keep(signature: inspect.Signature) -> Callable[..., None]:
        return lambda *values, **named: found.update(signature.bind(*values, **named).arguments)

    names = ("reconstructions", "interpolations", "samples", "traversals", "codebook", "index_maps", "rows")
    for name in (*names, "latent_map", "latent_line"):
        monkeypatch.setattr(figures, name, keep(inspect.signature(getattr(figures, name))))

    def arguments(picture: Picture, model: Any) -> dict[str, Any]:
        found.clear()
        with undisturbed(model):
            picture.draw(model, RandomImages())
        return dict(found)

    return arguments


def test_reconstructions_are_the_models_of_the_first_validation_images(shown: Any) -> None:
    model = small()
    found = shown(Reconstructions(count=6), model)
    assert torch.equal(found["x"], RandomImages().x[32:38])
    assert torch.equal(found["recon"], model.reconstruct(found["x"]))
    mse = (found["x"] - found["recon"]).square().mean((1, 2, 3))
    assert torch.allclose(found["psnr"], -10 * mse.log10())


def test_pictures_of_a_conditional_model_are_given_the_labels_of_the_images(shown: Any) -> None:
    size: dict[str, Any] = {"image_shape": [1, 8, 8], "latent_dim": 2, "widths": [8], "classes": 3}
    model = ConditionalVAE(prior="conditional", **size).eval()
    nn.init.normal_(model.prior_model.mean)  # type: ignore[union-attr]
    x, y = RandomImages().examples(20)
    assert torch.equal(shown(Reconstructions(count=6), model)["recon"], model.given(y[:6]).reconstruct(x[:6]))
    rows = shown(Samples(count=24, columns=16), model)
    assert (rows["columns"], rows["row_labels"]) == (8, ["a", "b", "c"])
    for label, row in enumerate(rows["images"].split(8)):
        assert torch.equal(row, model.given(label).sample(8, torch.Generator().manual_seed(0)))  # type: ignore[arg-type]
    few = shown(Samples(count=2), model)
    assert "first 2 of 3 labels" in few["note"]
    found = shown(Interpolations(pairs=3, steps=5), model)
    places = [[int((x == image).flatten(1).all(1).nonzero()) for image in found[end]] for end in ("start", "end")]
    seen = model.given(y[places[0]], y[places[1]])
    assert torch.equal(found["strips"]["linear"], seen.interpolate(x[places[0]], x[places[1]], steps=5))
    moved = shown(Traversals(image=4), model)
    torch.testing.assert_close(moved["recon"], model.given(y[4]).reconstruct(x[4]))
    assert f"given its label {'abc'[int(y[4])]}" in moved["note"]
    plane = shown(LatentMap(), model)["plane"]
    assert np.allclose(plane.points, model.given(y).encode(x).detach(), atol=1e-6)
    assert f"decoded given the label {'abc'[int(y[0])]}" in plane.note


def test_interpolations_go_between_images_of_different_labels(shown: Any) -> None:
    model = small()
    found = shown(Interpolations(pairs=3, steps=5), model)
    x, y = RandomImages().examples(20)

    def label(image: Tensor) -> int:
        return int(y[(x == image).flatten(1).all(1)][0])

    assert all(label(start) != label(end) for start, end in zip(found["start"], found["end"], strict=True))
    assert list(found["strips"]) == ["linear", "spherical"]
    for strip in found["strips"].values():
        assert strip.shape == (3, 5, 1, 8, 8)
        assert torch.allclose(strip[:, 0], model.reconstruct(found["start"]), atol=1e-5)
        assert torch.allclose(strip[:, -1], model.reconstruct(found["end"]), atol=1e-5)


@pytest.mark.parametrize("kind", [VAE, AE])
def test_samples_are_the_same_every_time_for_the_same_weights(kind: type[Autoencoder], shown: Any) -> None:
    model = small(kind, latent_dim=3)
    first = shown(Samples(count=9), model)["images"]
    torch.rand(5)
    assert torch.equal(first, shown(Samples(count=9), model)["images"])
    assert first.shape == (9, 1, 8, 8)
    assert not torch.equal(first[0], first[1])


def test_samples_say_what_they_are_drawn_from(shown: Any) -> None:
    assert shown(Samples(), small())["title"] == "Samples from the prior"
    found = shown(Samples(fit_images=15), small(AE))
    assert "not a prior" in found["title"]
    assert "15 validation images" in found["note"]


def test_the_fitted_gaussian_has_the_codes_mean_and_covariance_also_a_singular_one() -> None:
    base = torch.randn(500, 2, dtype=torch.float64) @ torch.tensor([[2.0, 1.0], [0.0, 0.5]], dtype=torch.float64)
    codes = torch.cat([base, base[:, :1] * 3 + 1], dim=1) + 5
    draws = image_pictures.gaussian_like(codes, 50_000, torch.Generator().manual_seed(0))
    assert torch.allclose(draws.mean(0), codes.mean(0), atol=0.1)
    assert torch.allclose(torch.cov(draws.T), torch.cov(codes.T), rtol=0.05, atol=0.05)
    assert torch.allclose(draws[:, 2], (draws[:, 0] - 5) * 3 + 6, atol=1e-6)


def test_traversals_put_the_dimension_with_most_kl_on_top(shown: Any) -> None:
    model = small(latent_dim=4)
    with torch.no_grad():
        layer = [module for module in model.encoder.modules() if isinstance(module, nn.Linear)][-1]
        layer.weight[:4] *= torch.tensor([0.0, 30.0, 1.0, 5.0])[:, None]
        layer.weight[4:] = 0
    found = shown(Traversals(rows=3), model)
    assert [label.split()[0] for label in found["row_labels"]] == ["z1", "z3", "z2"]
    posterior = model.posterior(RandomImages().x[32:])
    assert found["row_labels"][0] == f"z1  {gaussian_kl(*posterior.moments()).mean(0)[1]:.2f} nats"
    assert found["strips"].shape == (3, 11, 1, 8, 8)


def test_traversals_of_a_model_without_posterior_are_ordered_by_variance(shown: Any) -> None:
    model = small(AE, latent_dim=3)
    variance = model.encode(RandomImages().x[32:]).var(0, correction=0)
    found = shown(Traversals(), model)
    order = [f"z{dimension}" for dimension in variance.argsort(descending=True).tolist()]
    assert [label.split()[0] for label in found["row_labels"]] == order
    assert all(label.endswith("variance") for label in found["row_labels"])


def test_a_traversal_changes_one_dimension_over_the_aggregate_posterior() -> None:
    start, mean, std = torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0])
    codes = image_pictures.traversal_codes(start, mean, std, [slice(2, 3), slice(0, 1)], steps=3, extent=2)
    assert codes[0].tolist() == [[0, 0, -1], [0, 0, 3], [0, 0, 7]]
    assert codes[1].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]


def test_traversals_of_a_spatial_code_move_a_channel_at_all_positions_from_the_images_code(shown: Any) -> None:
    model = small(latent_dim=None, code_channels=3, network="conv")
    found = shown(Traversals(steps=5), model)
    assert sorted(label.split("  ")[0] for label in found["row_labels"]) == ["channel 0", "channel 1", "channel 2"]
    posterior = model.posterior(RandomImages().x[32:])
    kl = gaussian_kl(*posterior.moments()).mean(0).unflatten(0, model.code_shape).sum((1, 2))
    top = int(kl.argmax())
    assert found["row_labels"][0] == f"channel {top}  {kl[top]:.2f} nats"
    start = posterior.mean[0].unflatten(0, model.code_shape)
    std = (posterior.mean.var(0, correction=0) + posterior.logvar.exp().mean(0)).sqrt().unflatten(0, model.code_shape)
    moved = start.clone()
    moved[top] += 2.5 * std[top]
    strips = found["strips"]
    torch.testing.assert_close(strips[0, -1], model.decode(moved.flatten()[None])[0].cpu(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(strips[1, 2], model.reconstruct(RandomImages().x[32:33])[0], rtol=1e-4, atol=1e-5)
    assert "channel of the code per row" in found["note"]


class Painter:
    """Decodes a code to its own value: the red channel is the first dimension, the green one the second."""

    device = torch.device("cpu")
    image_shape = (3, 6, 4)

    def project(self, code: Tensor) -> Tensor:
        return code

    def decode(self, code: Tensor) -> Tensor:
        colour = torch.zeros(len(code), 3)
        colour[:, : code.shape[1]] = code
        return colour[:, :, None, None].expand(-1, 3, 6, 4)


def test_the_decoded_plane_has_the_first_dimension_to_the_right_and_the_second_upwards() -> None:
    pixels = decoded_plane(Painter(), Limits(0, 1, 0, 1), columns=6)
    assert pixels.shape == (4 * 6, 6 * 4, 3)  # as many rows as keep the images' shape
    height, width = pixels.shape[:2]
    for row, column in [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (8, 13)]:
        red, green, _ = pixels[row, column]
        assert red == pytest.approx((column + 0.5) / width, abs=1 / 6)
        assert green == pytest.approx(1 - (row + 0.5) / height, abs=1 / 4)
    assert (pixels[0, :, 1] > pixels[-1, :, 1]).all()
    assert (pixels[:, 0, 0] < pixels[:, -1, 0]).all()


def test_the_decoded_line_goes_from_left_to_right() -> None:
    pixels = decoded_plane(Painter(), Limits(0, 1, 0, 1), columns=5, dimensions=1)
    assert pixels.shape == (6, 20, 3)
    assert pixels[0, ::4, 0] == pytest.approx(np.array([0.1, 0.3, 0.5, 0.7, 0.9]))


def test_the_map_shows_the_codes_and_the_bulk_of_the_prior(shown: Any) -> None:
    model = small()
    plane = shown(LatentMap(count=20, ellipses=7, grid=4), model)["plane"]
    assert np.allclose(plane.points, model.encode(RandomImages().x[32:]).detach(), atol=1e-6)
    assert plane.prior.ellipse[:4] == pytest.approx((0, 0, 4, 4))
    assert plane.ellipses.shape == (FEWEST, 3)  # of 7, all as wide as the prior
    assert plane.limits.left <= -3
    assert plane.limits.right >= 3
    assert "2σ ellipses of 5 posteriors" in plane.note


def test_the_two_panels_of_the_map_have_the_same_limits() -> None:
    with torch.no_grad():
        figure = LatentMap(count=20, grid=4).draw(small(), RandomImages())
    assert figure is not None
    first, second = figure.axes[:2]
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    assert tuple(second.images[0].get_extent()) == (*second.get_xlim(), *second.get_ylim())
    assert second.images[0].origin == "upper"


def test_a_model_without_posterior_and_prior_has_no_ellipses(shown: Any) -> None:
    plane = shown(LatentMap(grid=4), small(AE))["plane"]
    assert plane.prior is None
    assert not len(plane.ellipses)


def test_an_autoencoder_with_a_prior_shows_it_and_draws_from_it(shown: Any) -> None:
    model = small(AE, prior="normal")
    assert shown(Samples(), model)["title"] == "Samples from the prior"
    plane = shown(LatentMap(grid=4), model)["plane"]
    assert plane.prior.ellipse[:4] == pytest.approx((0, 0, 4, 4))
    assert not len(plane.ellipses)
    assert shown(LatentMap(grid=4), small(AE, latent_dim=1, prior="normal"))["plane"].density is not None


def test_a_prior_that_is_no_gaussian_is_shown_by_draws(shown: Any) -> None:
    model = small(latent_dim=4, prior="vamp", prior_options={"components": 3})
    plane = shown(LatentMap(), model)["plane"]
    assert plane.prior.ellipse is None
    assert plane.prior.draws.shape == (PRIOR_DRAWS, 2)
    assert "crosses: draws of the prior" in plane.note
    assert len(plane.ellipses) >= FEWEST
    left, right, bottom, top = plane.limits
    assert ((plane.prior.draws > (left, bottom)) & (plane.prior.draws < (right, top))).all()


def test_the_density_of_any_prior_is_drawn_over_a_line(shown: Any) -> None:
    for options in ({}, {"prior": "vamp", "prior_options": {"components": 3}}):
        model = small(latent_dim=1, **options)
        plane = shown(LatentMap(grid=4), model)["plane"]
        axis = torch.linspace(plane.limits.left, plane.limits.right, len(plane.density))
        assert np.allclose(plane.density, model.prior().log_prob(axis[:, None]).exp().detach(), atol=1e-6)
        assert np.trapezoid(plane.density, axis) == pytest.approx(1, abs=0.02)


def test_a_posterior_of_dependent_dimensions_has_a_map_without_ellipses(shown: Any) -> None:
    plane = shown(LatentMap(), small(latent_dim=3, posterior="full"))["plane"]
    assert not len(plane.ellipses)
    assert plane.prior.ellipse is not None


def test_a_circle_has_a_map_whose_images_depend_on_the_angle_alone_and_no_traversals(shown: Any) -> None:
    model = small(latent_dim=2, posterior="power_spherical", prior="uniform_sphere")
    plane = shown(LatentMap(grid=4), model)["plane"]
    assert not len(plane.ellipses)
    torch.testing.assert_close(torch.from_numpy(plane.prior.draws).norm(dim=1), torch.ones(PRIOR_DRAWS).double())
    decoded = [decoded_plane(model, Limits(-size, size, -size, size), 2) for size in (0.5, 3.0)]
    assert np.abs(decoded[0] - decoded[1]).max() < 1e-4
    assert shown(Traversals(), model) == {}
    strips = shown(Interpolations(), model)["strips"]
    torch.testing.assert_close(strips["linear"][:, [0, -1]], strips["spherical"][:, [0, -1]])


def discrete() -> VQVAE:
    model = small(VQVAE, quantizer_options={"size": 6}, code_channels=2, latent_dim=None, network="conv")
    model.start_from(RandomImages().x)
    return model


def test_instead_of_traversals_of_discrete_codes_the_most_used_codes_are_shown(shown: Any) -> None:
    model = discrete()
    found = shown(Traversals(image=1), model)
    x = RandomImages().x[32:]
    indices = model.indices(x)
    counts = torch.bincount(indices.flatten(), minlength=6)
    assert found["shares"] == (counts.sort(descending=True).values / counts.sum())[: (counts > 0).sum()].tolist()
    everywhere, centre = found["rows"].values()
    most = counts.argmax()
    alone = model.decode(model.codes_at(torch.full_like(indices[:1], int(most))))
    torch.testing.assert_close(everywhere[:1], alone)
    swapped = indices[1:2].clone()
    swapped[0, 0, 2, 2] = most
    torch.testing.assert_close(centre[:1], model.decode(model.codes_at(swapped)))


def test_maps_of_indices_show_each_level_and_what_it_adds(shown: Any) -> None:
    """The rows of one model's images: the last depth is the reconstruction itself."""
    model = small(RVQVAE, quantizer_options={"size": 6, "levels": 3}, latent_dim=None, network="conv")
    model.start_from(RandomImages().x)
    found, x = shown(IndexMaps(count=4), model.eval()), RandomImages().x[32:36]
    images, indices = found["images"], model.indices(x)
    assert list(images) == ["original", "level 1", "levels 1 to 2", "reconstruction"]
    assert torch.equal(images["original"], x)
    torch.testing.assert_close(images["level 1"], model.decode(model.partial_codes(indices)[0]))
    torch.testing.assert_close(images["reconstruction"], model.reconstruct(x))
    assert list(found["maps"]) == [f"indices, level {level}" for level in (1, 2, 3)]
    for level, drawn in enumerate(found["maps"].values()):
        assert torch.equal(drawn, indices[:, level])
    assert list(shown(IndexMaps(count=4), discrete())["maps"]) == ["indices"]
    for other in (small(), small(CategoricalVAE, latent_dim=None)):
        assert shown(IndexMaps(), other) == {}


def two_grids() -> VQVAE2:
    model = small(VQVAE2, quantizer_options={"size": 6}, latent_dim=None, network="conv", grid_width=8)
    model.start_from(RandomImages().x)
    return model.eval()


def test_maps_of_indices_show_each_grid(shown: Any) -> None:
    model, x = two_grids(), RandomImages().x[32:36]
    found, indices = shown(IndexMaps(count=4), model), model.indices(x)
    assert list(found["images"]) == ["original", "reconstruction"]
    maps = found["maps"]
    assert {name: indices.shape for name, indices in maps.items()} == {
        "indices, top": (4, 2, 2),
        "indices, bottom": (4, 4, 4),
    }
    assert torch.equal(torch.cat([each.flatten(1) for each in maps.values()], 1), indices)
    sizes = [len(each.unique()) for each in maps.values()]
    assert f"{sizes[0]} of 6, {sizes[1]} of 6 codes occur here" in found["note"]


def test_of_two_grids_the_codes_of_the_top_vary(shown: Any) -> None:
    model, x = two_grids(), RandomImages().x[32:]
    found = shown(Traversals(image=1), model)
    counts = torch.bincount(model.indices(x)[:, :4].flatten(), minlength=6)
    assert f"of {(counts > 0).sum()} codes in use, of 6 of top" in found["note"]
    changed = model.indices(x[1:2]).clone()
    changed[:, :4] = counts.argmax()
    everywhere, centre = found["rows"].values()
    torch.testing.assert_close(everywhere[:1], model.decode(model.codes_at(changed)))
    changed = model.indices(x[1:2]).clone()
    changed[:, 3] = counts.argmax()
    torch.testing.assert_close(centre[:1], model.decode(model.codes_at(changed)))


@pytest.mark.parametrize(
    ("codebook", "words"),
    [("", ""), ("1", "level 1"), ("12", "level 12"), ("top", "top"), ("bottom_2", "bottom, level 2")],
)
def test_codebooks_have_names_in_words(codebook: str, words: str) -> None:
    assert in_words(codebook) == words


def test_neighbouring_indices_have_different_colours() -> None:
    colours = figures.images.index_colours(torch.arange(64).view(1, 8, 8))
    assert colours.shape == (1, 3, 8, 8)
    distances = torch.cdist(colours[0].flatten(1).T, colours[0].flatten(1).T)
    assert distances.diagonal(1).min() > 0.3
    assert (distances + torch.eye(64)).min() > 0.02
    assert torch.equal(figures.images.index_colours(torch.full((1, 1, 1), 9)), colours[..., 1:2, 1:2])


def test_channels_that_are_rounded_are_shown_at_each_of_their_values(shown: Any) -> None:
    model = small(FSQVAE, quantizer_options={"levels": [4, 3]}, latent_dim=None, network="conv").eval()
    found = shown(Traversals(image=1, rows=1), model)["rows"]
    assert list(found) == ["everywhere", "in the centre", "channel 0"]
    code = model.encode(RandomImages().x[33:34]).unflatten(1, model.code_shape).repeat(4, 1, 1, 1)
    code[:, 0] = torch.tensor([-1, -0.5, 0, 0.5])[:, None, None]
    torch.testing.assert_close(found["channel 0"], model.decode(code.flatten(1)))


def test_draws_for_discrete_codes_are_moved_to_the_codebook(shown: Any) -> None:
    model, decoded = discrete(), []
    decode = model.decode
    model.decode = lambda code: decoded.append(code) or decode(code)  # type: ignore[assignment, func-returns-value]
    assert "moved to the nearest ones of the codebook" in shown(Samples(), model)["note"]
    (codes,) = decoded
    assert torch.equal(codes, model.project(codes))


def test_a_kl_that_is_no_sum_over_dimensions_has_no_heat_map() -> None:
    callback = LatentKL()
    callback.remember(5, {"variance": torch.ones(3)})
    assert callback.figure(small(), RandomImages()) is None


def test_points_are_coloured_by_the_first_factor_that_varies() -> None:
    columns = torch.tensor([[0, 1], [0, 0], [0, 1]])
    labels = labels_of(columns, (Factor("colour", ("white",)), Factor("shape", ("square", "heart"))))
    assert labels.title == "shape"
    assert [labels.name(value) for value in labels.values] == ["heart", "square", "heart"]
    assert labels_of(torch.tensor([4, -1]), ()).name(4) == "4"


# the history of KL ---------------------------------------------------------------------------------------------------


def test_kl_history_has_each_validations_own_statistics(tmp_path: Path) -> None:
    seen: list[list[float]] = []

    class Watch(L.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append(pl_module.latent_statistics["kl"].tolist())

    picture = LatentKL(every_n_epochs=2)
    train(small(latent_dim=3), [picture, Watch()], tmp_path, max_epochs=3)
    assert picture.history["steps"] == [4, 8, 12]
    assert picture.history["kl"] == seen
    assert len({tuple(kl) for kl in seen}) == 3
    assert written(tmp_path) == {"latent_kl": [8, 12]}


def test_kl_history_goes_through_a_checkpoint_that_holds_plain_values(tmp_path: Path) -> None:
    whole = LatentKL()
    train(small(), [whole], tmp_path / "whole", max_epochs=4)
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    train(small(), [LatentKL(), saver], tmp_path / "first", max_epochs=2, enable_checkpointing=True)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["LatentKL"]["steps"] == [4, 8]
    resumed = LatentKL()
    resumed.load_state_dict(checkpoint["callbacks"]["LatentKL"])
    assert resumed.history["kl"] == whole.history["kl"][:2]


def test_history_and_cadence_go_on_after_resuming(tmp_path: Path) -> None:
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    train(small(), [LatentKL(), saver], tmp_path / "first", max_epochs=2, enable_checkpointing=True)
    picture = LatentKL(every_n_epochs=2)
    train(small(), [picture], tmp_path, max_epochs=5, resume=tmp_path / "last.ckpt")
    assert picture.history["steps"] == [4, 8, 12, 16, 20]
    assert written(tmp_path) == {"latent_kl": [16, 20]}


def test_saved_history_is_a_copy() -> None:
    picture = LatentKL()
    picture.remember(4, {"kl": torch.tensor([1.0, 0.5]), "variance": torch.tensor([0.5, 0.001])})
    state = picture.state_dict()
    picture.remember(8, {"kl": torch.tensor([1.0, 0.5]), "variance": torch.tensor([0.5, 0.001])})
    assert (state["steps"], state["kl"], state["active"]) == ([4], [[1.0, 0.5]], [1])


def test_pictures_by_steps_come_where_they_would_have_after_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vaezoo.training.callbacks.pictures.STEPS_APART", 10
    )  # of 4 steps an epoch: due at 12, 20 and 32
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    train(small(), [Samples(count=2), saver], tmp_path, max_epochs=4, enable_checkpointing=True)
    assert written(tmp_path) == {"samples": [12, 16]}
    train(small(), [Samples(count=2)], tmp_path, max_epochs=9, resume=tmp_path / "last.ckpt")
    assert written(tmp_path) == {"samples": [12, 16, 20, 32, 36]}
