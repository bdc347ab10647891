"""Numbers that go wrong stop a training with the step, the term and the images to blame, or cost that step alone."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from PIL import Image
from torch import Tensor
from torch.multiprocessing import ProcessRaisedException
from torch.utils.data import DataLoader, TensorDataset

from tests.commands.test_train import interrupt_at
from tests.conftest import some_models
from tests.training.callbacks.test_exact_resume import same
from tests.training.test_stepping import assert_equal_weights, small
from vaezoo import Run
from vaezoo.config.errors import ConfigError, NonFiniteLossError
from vaezoo.data import ImageDataModule
from vaezoo.data.order import TrainingOrder
from vaezoo.models import VAE, VQVAE, Autoencoder, FactorVAE
from vaezoo.training.callbacks import LastCheckpoint
from vaezoo.training.finite_watch import Watch, any_nonfinite
from vaezoo.training.nonfinite import MAX_CONSECUTIVE_SKIPS
from vaezoo.training.terms import Terms
from vaezoo.training.trainer import Trainer

WHITE = 77
"""The training image that is made all white, and by that is known wherever it turns up."""

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]


@pytest.fixture(params=["at once", "later"])
def looking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are looked at as on the CPU, and as where there is a device to wait for."""
    if request.param == "later":
        monkeypatch.setattr("vaezoo.training.nonfinite.checks_eagerly", lambda model: False)


def is_white(x: Tensor) -> Tensor:
    return (x == 1).flatten(1).all(1)


class Digits(ImageDataModule):
    """144 digits in batches of 32, one of which is white; from some epoch on it has NaNs for pixels if it shall."""

    def __init__(self, *, nan_from: int | None = None, white: int = WHITE, **settings: Any) -> None:
        chosen = {"batch_size": 32, "limit": 144, "image_size": 16, "channels": 1, "source": "digits", **settings}
        super().__init__(val_size=297, test_size=300, **chosen)
        self.nan_from, self.white = nan_from, white

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self._splits["train"].pixels[self.white] = 255

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, *rest = super().on_after_batch_transfer(batch, dataloader_idx)
        if self.nan_from is not None and self.trainer.current_epoch >= self.nan_from:
            x = torch.where(is_white(x)[:, None, None, None], torch.nan, x)
        return x, *rest


class Steep(VAE):
    """Has a term sqrt(|z - z|) for white images, whose value is 0 and whose derivative is infinite."""

    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        code = self.encode(x)[:, 0]
        terms.penalties["steep"] = torch.where(is_white(x), code - code.detach(), 1.0).sqrt()
        return terms

    def objective(self, terms: Terms, weights: Any) -> Tensor:
        return super().objective(terms, weights) + terms.penalties["steep"]


class Overflow(Autoencoder):
    """Gives white images an infinite reconstruction term, in training."""

    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        if self.training:
            terms.recon = torch.where(is_white(x), torch.inf, terms.recon)
        return terms


class Overflowing(Overflow, VAE):
    """A VAE whose loss overflows, but not its codes."""


class SmallVQVAE(VQVAE):
    def __init__(self, *, latent_dim: int | None = None, network: str = "conv", **settings: Any) -> None:
        settings["code_channels"] = 4
        super().__init__(latent_dim=None, network="conv", quantizer_options={"size": 8}, **settings)


class OverflowingVQVAE(Overflow, SmallVQVAE):
    """A VQ-VAE whose loss overflows, but not the vectors that its codebook follows."""


class BadCritic(FactorVAE):
    """Gives white images an infinite loss of the critic."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(penalty_options={"widths": [8]}, **settings)

    def loss_terms(self, x: Tensor) -> Terms:
        terms = super().loss_terms(x)
        if terms.critic is not None:
            terms.critic = torch.where(is_white(x), torch.inf, terms.critic)
        return terms


def place_of(position: int, epoch: int = 0, batch_size: int = 32) -> int:
    """In which batch of an epoch an image of the 144 comes."""
    order = TrainingOrder(144, batch_size, seed=0)
    order.set_epoch(epoch)
    return next(place for place, batch in enumerate(order.batches()) if position in batch)


def fit(model: Any, data: Any, stepping: str = "fast", *, callbacks: Any = None, **settings: Any) -> Trainer:
    model.stepping = stepping
    trainer = Trainer(
        **{"max_epochs": 3, "accelerator": "cpu", "use_distributed_sampler": False, **settings},
        callbacks=callbacks or [],
        logger=False,
        enable_checkpointing=any(isinstance(callback, LastCheckpoint) for callback in callbacks or []),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    torch.manual_seed(1)
    trainer.fit(model, datamodule=data) if isinstance(data, L.LightningDataModule) else trainer.fit(model, data)
    return trainer


def error_of(*arguments: Any, **settings: Any) -> str:
    with pytest.raises(NonFiniteLossError) as caught:
        fit(*arguments, **settings)
    return str(caught.value)


# stop ---------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("stepping", ["fast", "lightning"])
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_an_image_of_nans_is_named_with_its_step_and_term(stepping: str, every: int) -> None:
    said = error_of(small(), Digits(nan_from=1), stepping, log_every_n_steps=every)
    step = 5 + place_of(WHITE, epoch=1)
    assert (
        f"the loss is not finite at step {step}, because of recon and kl of 1 of 32 images (index 77 of the tr" in said
    )
    assert "trainer.on_nonfinite=skip" in said


@pytest.mark.parametrize("variant", some_models(3))
def test_an_image_is_named_for_every_variant(variant: str, make_model: Callable[..., Any]) -> None:
    model = make_model(variant, "model.widths=[16]" if variant != "conv_vae" else "model.widths=null")
    said = error_of(model, Digits(nan_from=0, binarize="dynamic", limit=144), max_epochs=1)
    assert re.search(
        rf"at step {place_of(WHITE)}, because of recon( and [\w.]+)* of 1 of \d+ images \(index 77 of", said
    )


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("stepping", ["fast", "lightning"])
@pytest.mark.parametrize("every", [1, 3, 1000])
def test_an_infinite_gradient_of_a_finite_loss_is_what_is_named(stepping: str, every: int) -> None:
    """In the epoch's middle, so that all losses after it are NaN: the cause counts."""
    white = int(TrainingOrder(144, 32, seed=0).batches()[2][4])
    said = error_of(small(Steep), Digits(white=white), stepping, log_every_n_steps=every)
    assert "the gradient is not finite at step 2, though the loss is, because of 32 of 32 images (index " in said


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize(("cls", "term"), [(Overflowing, "recon"), (BadCritic, "critic")])
def test_an_infinite_term_is_told_from_the_others(cls: Any, term: str) -> None:
    said = error_of(small(cls), Digits())
    assert f"not finite at step {place_of(WHITE)}, because of {term} of 1 of 32 images (index 77 of" in said


@pytest.mark.usefixtures("looking")
def test_weights_that_diverge_blame_all_images_and_the_learning_rate() -> None:
    said = error_of(small(optimizer={"name": "Adam", "lr": 1e30}), Digits())
    assert "the loss is not finite at step 1, because of " in said
    assert "of 32 of 32 images" in said
    assert "a lower model.optimizer.lr" in said


@pytest.mark.usefixtures("looking")
def test_accumulated_batches_are_blamed_together(tmp_path: Path) -> None:
    white = int(TrainingOrder(144, 32, seed=0).batches()[2][4])  # the third batch is the first of the second step
    (tmp_path / "config.yaml").write_text("")
    said = error_of(small(Steep), Digits(white=white), accumulate_grad_batches=2, default_root_dir=tmp_path)
    assert "the gradient is not finite at step 1, though the loss is, because of 64 of 64 images" in said
    saved = torch.load(tmp_path / "nonfinite" / "step=00000001.pt", weights_only=True)
    assert saved["batches"] == [2, 3]
    assert len(saved["x"]) == len(saved["indices"]) == 64


@pytest.mark.usefixtures("looking")
def test_infinite_gradients_of_scaled_losses_are_the_scalers_business() -> None:
    model = small(Steep)
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    trainer = fit(model, Digits(), plugins=[scaled], max_epochs=1, log_every_n_steps=1)
    assert trainer.precision == "16-mixed"
    assert trainer.global_step == 5
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_without_vaezoos_loaders_the_place_in_the_batch_is_told() -> None:
    x = torch.rand(64, 1, 16, 16)
    x[37] = torch.nan
    batches = DataLoader(TensorDataset(x, torch.zeros(64)), batch_size=32)
    assert "at step 1, because of recon and kl of 1 of 32 images (number 5 of the batch)" in error_of(small(), batches)


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_in_folders_are_named_by_their_files(in_memory: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(130):
        Image.fromarray(random.integers(0, 250, (16, 16), np.uint8)).save(tmp_path / f"{number}.png")
    settings: dict[str, Any] = {"root": str(tmp_path), "image_size": 16, "channels": 1, "val_size": 10, "test_size": 10}
    settings |= {"source": "image_folder", "batch_size": 20, "num_workers": 0, "in_memory": in_memory}
    before = ImageDataModule(**settings)
    before.setup()
    unreadable, white = (before._unreadable["train"].files.path(place) for place in (3, 40))
    Path(unreadable).write_bytes(b"no image")
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(white)
    said = error_of(small(Overflowing), ImageDataModule(**settings))
    assert f"(index {39 if in_memory else 40} of the training split: {white})" in said


def test_a_run_that_stops_keeps_the_batch_and_the_checkpoint_from_before(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["model.widths=[16]", "trainer.max_epochs=3", "callbacks=none", "evaluation=none", "model=beta_vae"]
    settings += [f"data._target_={Digits.__module__}.Digits", "data.limit=144", "data.batch_size=32"]
    settings += ["+data.nan_from=1", "callbacks.last.min_seconds=0", "data.binarize=dynamic"]
    monkeypatch.setattr(Digits, "__init__", _as_the_yaml_has_it)
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *settings)
    run, step = Run(tmp_path / "run"), 5 + place_of(WHITE, epoch=1)
    path = run.path / "nonfinite" / f"step={step:08d}.pt"
    assert code == 1
    assert printed.count("error: ") == 1
    assert (
        f"index 77 of the training split); the batch is saved in {path}; previously saved weights are kept" in printed
    )
    assert run.summary["status"] == "failed"
    assert f"at step {step}, because of recon and kl of 1 of 32" in run.summary["error"]
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == 5
    assert all(torch.isfinite(parameter).all() for parameter in run.model("last").parameters())
    saved = torch.load(path, weights_only=True)
    assert (saved["what"], saved["step"], saved["epoch"]) == ("loss", step, 1)
    nan = saved["x"].isnan().flatten(1).all(1)
    assert saved["indices"][nan].tolist() == [WHITE]
    assert saved["terms"]["recon"].isnan().equal(nan)
    assert set(saved["x"][~nan].unique().tolist()) == {0.0, 1.0}
    assert saved["x"].shape == (32, 1, 16, 16)
    assert saved["y"].shape == (32,)


def _as_the_yaml_has_it(self: Digits, *, nan_from: int | None = None, **settings: Any) -> None:
    ImageDataModule.__init__(self, **settings)
    self.nan_from, self.white = nan_from, WHITE


@pytest.mark.usefixtures("looking")
def test_the_batch_that_is_saved_is_the_one_that_was_trained_on(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Seeing(Overflowing):
        def loss_terms(self, x: Tensor) -> Terms:
            seen.append(x)
            return super().loss_terms(x)

    (tmp_path / "config.yaml").write_text("")
    error_of(small(Seeing), Digits(binarize="dynamic"), default_root_dir=tmp_path, log_every_n_steps=1)
    [path] = (tmp_path / "nonfinite").iterdir()
    assert torch.equal(torch.load(path, weights_only=True)["x"], seen[-1])


# several processes --------------------------------------------------------------------------------------------------


def fit_two(model: Any, data: Any, **settings: Any) -> None:
    """Both processes are copies of this one, and start at once."""
    fit(model, data, devices=2, strategy="ddp_fork", max_epochs=2, log_every_n_steps=1000, **settings)


def test_a_nan_on_one_process_stops_all_of_them_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ProcessRaisedException) as caught:
        fit_two(small(), Digits(nan_from=1), default_root_dir=tmp_path)
    step = 5 + place_of(WHITE, epoch=1)
    said = (
        f"loss is not finite at step {step}, because of recon and kl of 1 of 32 images (index 77 of the training split)"
    )
    assert said in str(caught.value)
    saved = torch.load(tmp_path / "nonfinite" / f"step={step:08d}.pt", weights_only=True)
    assert saved["indices"][saved["terms"]["recon"].isnan()].tolist() == [WHITE]
    assert len(saved["x"]) == 32


class Telling(L.Callback):
    """Writes down what each process came to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        came_to = {"skipped": pl_module.guard.skipped, "weights": pl_module.state_dict()}
        torch.save(came_to, self.folder / f"{trainer.global_rank}.pt")


def test_processes_skip_together(tmp_path: Path) -> None:
    fit_two(small(), Digits(nan_from=0), on_nonfinite="skip", callbacks=[Telling(tmp_path)])
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one["skipped"] == two["skipped"] == 2
    assert all(weight.isfinite().all() for weight in one["weights"].values())
    assert all(torch.equal(weight, two["weights"][name]) for name, weight in one["weights"].items())


# skip ---------------------------------------------------------------------------------------------------------------


class Weights(L.Callback):
    """The weights and the optimiser's state after each batch, and the means that are logged."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
        if not hasattr(self, "seen"):
            self.seen: list[Any] = []
        state = trainer.optimizers[0].state_dict()["state"]
        tensors = [*pl_module.state_dict().values(), *(value for each in state.values() for value in each.values())]
        self.seen.append([tensor.detach().clone() for tensor in tensors])


SKIPPING = {"on_nonfinite": "skip", "log_every_n_steps": 1}


@pytest.mark.parametrize("cls", [VAE, Steep, Overflowing, SmallVQVAE, OverflowingVQVAE, BadCritic])
def test_a_skipped_step_leaves_weights_and_optimiser_as_they_were(cls: Any) -> None:
    data = {"nan_from": 0} if cls in (VAE, SmallVQVAE) else {}
    models, watched = (small(cls), small(cls)), (Weights(), Weights())
    for model, seen, stepping in zip(models, watched, ("fast", "lightning"), strict=True):
        trainer = fit(model, Digits(**data), stepping, callbacks=[seen], max_epochs=2, **SKIPPING)
        assert trainer.global_step == 10
        assert model.guard.skipped == 2
    place = place_of(WHITE)
    before, after = watched[0].seen[place - 1], watched[0].seen[place]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not torch.equal(watched[0].seen[place + 1][0], after[0])
    assert_equal_weights(*models)


def test_a_skipped_step_leaves_a_running_sigma_as_it_was() -> None:
    optimal = {"likelihood": "learned_gaussian", "likelihood_options": {"sigma": "optimal"}}
    model = small(VAE, **optimal)
    fit(model, Digits(nan_from=0), max_epochs=2, **SKIPPING)
    assert model.likelihood.batches == 8
    assert torch.isfinite(model.likelihood.log_sigma)


def test_schedules_go_on_while_a_step_is_skipped() -> None:
    scheduler = {"name": "ExponentialLR", "gamma": 0.5}
    trainer = fit(small(scheduler=scheduler), Digits(nan_from=0), max_epochs=1, **SKIPPING)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-3 * 0.5**5


def test_accumulated_batches_are_skipped_together() -> None:
    model = small()
    trainer = fit(model, Digits(nan_from=0), max_epochs=1, accumulate_grad_batches=5, **SKIPPING)
    assert (trainer.global_step, model.guard.skipped) == (1, 1)
    untrained, data = small(), Digits()
    data.setup()
    untrained.start_decoder(data.examples(1000, "train")[0])
    assert_equal_weights(model, untrained)


def test_skipped_steps_are_told_counted_and_left_out_of_the_means(
    train: Train, program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Digits, "__init__", _as_the_yaml_has_it)
    settings = [f"data._target_={Digits.__module__}.Digits", "data.limit=144", "data.batch_size=32"]
    settings += [
        "+data.nan_from=0",
        "trainer.on_nonfinite=skip",
        "trainer.max_skipped=3",
        "trainer.log_every_n_steps=5",
    ]
    run = train("run", *settings)
    assert run.summary["skipped_steps"] == 2
    assert all(np.isfinite(row["train/loss"]) for row in run.metrics if "train/loss" in row)
    told = (run.path / "train.log").read_text()
    assert told.count("the step is skipped") == 2
    assert "(index 77 of the training split)" in told
    code, printed = program("train", f"resume={run.path}", "packages=[tests]", "trainer.max_epochs=3")
    assert code == 0, printed
    assert run.summary["skipped_steps"] == 3
    code, printed = program("train", f"resume={run.path}", "packages=[tests]", "trainer.max_epochs=4")
    assert code == 1
    assert "4 steps skipped, more than trainer.max_skipped=3" in printed
    assert run.summary["status"] == "failed"


@pytest.mark.parametrize("stepping", ["fast", "lightning"])
def test_a_run_with_a_codebook_goes_on_exactly_around_skipped_steps(
    stepping: str, program: Program, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits, "__init__", _as_the_yaml_has_it)
    settings = [
        f"data._target_={Digits.__module__}.Digits",
        "+data.nan_from=0",
        f"stepping={stepping}",
        "data.limit=144",
    ]
    settings += ["model=vqvae", "model.network=conv", "+model.quantizer_options.size=8", "model.widths=[8]"]
    settings += ["callbacks=none", "callbacks.last.every_n_steps=3", "callbacks.last.min_seconds=0", "evaluation=none"]
    settings += ["trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.on_nonfinite=skip"]
    settings += ["data.limit=144", "data.batch_size=32"]
    whole = train("whole", *settings)
    assert whole.summary["skipped_steps"] == 2
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        assert program("train", f"run_dir={tmp_path / 'part'}", *settings)[0] == 130
    code, printed = program("train", f"resume={tmp_path / 'part'}", "packages=[tests]")
    assert code == 0, printed
    assert same(whole.path, tmp_path / "part")


def test_many_skipped_steps_in_a_row_stop() -> None:
    class NoFault(VAE):
        def objective(self, terms: Terms, weights: Any) -> Tensor:
            return super().objective(terms, weights) * (torch.nan if self.training and self.global_step >= 4 else 1)

    model = small(NoFault)
    said = error_of(model, Digits(), on_nonfinite="skip")
    assert model.guard.skipped == MAX_CONSECUTIVE_SKIPS == 10
    assert f"at step {4 + MAX_CONSECUTIVE_SKIPS - 1}, because of the objective of 32 of 32 images" in said
    assert "10 steps skipped, 10 in a row" in said


@pytest.mark.parametrize("setting", [{"on_nonfinite": "ignore"}, {"max_skipped": -1}])
def test_what_a_trainer_cannot_be_told_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Trainer(**setting)


# the watch ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_wrong_number_anywhere_in_a_gradient_is_found(dtype: torch.dtype, value: float) -> None:
    gradients = [torch.full((300,), 3e4, dtype=dtype), torch.randn(4, 5).to(dtype)]
    before = [gradient.clone() for gradient in gradients]
    assert any_nonfinite(gradients).item() == 0
    assert all(torch.equal(one, other) for one, other in zip(before, gradients, strict=True))
    gradients[1][3, 2] = value
    assert any_nonfinite(gradients).item() == 1


def test_large_gradients_are_no_wrong_ones() -> None:
    assert any_nonfinite([torch.full((10,), 1e30)]).item() == 0


def test_the_first_of_several_wrong_numbers_is_found() -> None:
    watch, values = Watch(), {"loss": torch.ones(2)}
    for step, loss in enumerate([1.0, 2.0, torch.nan, torch.inf]):
        watch.record_loss(step, step, torch.tensor(loss, dtype=torch.float64), values)
        watch.record_gradient(torch.tensor([1.0 if step == 1 else 0.0]))
    found = watch.first_nonfinite()
    assert found is not None
    assert found[:3] == ("gradient", 1, [1])
    assert watch.first_nonfinite() is None


def test_processes_agree_on_the_first_of_their_numbers() -> None:
    watch = Watch()
    for step in range(3):
        watch.record_loss(step, step, torch.tensor(1.0), {"loss": torch.ones(1)})
    found = watch.first_nonfinite(lambda place: torch.minimum(place, torch.tensor(1)))
    assert found is not None
    assert found[:3] == ("loss", 1, [1])


@pytest.mark.usefixtures("looking")
def test_a_step_with_last_checkpoints_writes_none_of_weights_that_are_not_finite(tmp_path: Path) -> None:
    last = LastCheckpoint(dirpath=str(tmp_path), every_n_steps=1, min_seconds=0)
    error_of(small(Steep), Digits(), callbacks=[last], log_every_n_steps=1000)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == place_of(WHITE)
    assert all(torch.isfinite(weight).all() for weight in saved["state_dict"].values())


def test_models_train_with_lightnings_own_trainer() -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with pytest.raises(NonFiniteLossError):
        L.Trainer(max_epochs=1, accelerator="cpu", **quiet).fit(small(), datamodule=Digits(nan_from=0))
