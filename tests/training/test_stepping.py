"""How batches are stepped through changes the speed of a training, and nothing else."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from shutil import which
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor
from torch._inductor import config as inductor

from tests.commands.test_train import interrupt_at
from tests.conftest import small as small_parts
from tests.conftest import some_models
from tests.training.callbacks.test_exact_resume import same
from vaezoo import Run
from vaezoo.config.choices import STEPPING
from vaezoo.data import ImageDataModule
from vaezoo.models import AE, VAE, Autoencoder, BetaVAE
from vaezoo.training.module import Loop
from vaezoo.training.stepping import InnerLoop, reason_against

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]


def digits(**settings: Any) -> ImageDataModule:
    chosen = {"batch_size": 32, "limit": 144, **settings}  # four whole batches and a short one
    return ImageDataModule(source="digits", image_size=16, channels=1, val_size=297, test_size=300, **chosen)


def small(cls: type[VAE] | type[AE] = VAE, **settings: Any) -> Any:
    torch.manual_seed(0)
    return cls(image_shape=(1, 16, 16), latent_dim=4, widths=[16], **settings)


def fit(
    model: Any,
    stepping: str,
    callbacks: list[L.Callback] | None = None,
    data: Any = None,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> L.Trainer:
    """A training on the digits without a run folder."""
    model.stepping = stepping
    chosen: dict[str, Any] = {"max_epochs": 3, "accelerator": "cpu", "use_distributed_sampler": False, **settings}
    trainer = L.Trainer(
        callbacks=callbacks or [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **chosen,
    )
    torch.manual_seed(1)
    trainer.fit(model, datamodule=data or digits(), ckpt_path=ckpt_path)
    return trainer


def progress_of(trainer: L.Trainer) -> dict[str, Any]:
    """All counters of a trainer's loops, as checkpoints have them."""
    state: dict[str, Any] = trainer.fit_loop.state_dict()
    return state


def assert_equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def steps_of_lightning(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step at the end of each batch that Lightning's own loop took."""
    taken: list[int] = []
    run = InnerLoop.run

    def counting(self: InnerLoop) -> None:
        taken.append(self.trainer.global_step)
        run(self)

    monkeypatch.setattr(InnerLoop, "run", counting)
    return taken


# the same training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", some_models(4))
def test_every_variant_trains_alike_and_leaves_the_same_record(variant: str, train: Train) -> None:
    settings = [f"model={variant}", "data.binarize=dynamic", "trainer.log_every_n_steps=3", "trainer.max_epochs=3"]
    if variant == "beta_vae":
        settings += ["model.beta_schedule=linear", "model.schedule_steps=8"]
    fast, slow = (train(stepping, *settings, f"stepping={stepping}") for stepping in ("fast", "lightning"))
    assert_equal_weights(fast.model("last"), slow.model("last"))
    assert_equal_weights(fast.model(), slow.model())
    assert fast.metrics == slow.metrics
    assert fast.summary["test"] == slow.summary["test"]


def test_lightning_takes_the_first_batch_of_an_epoch_alone(steps_of_lightning: list[int]) -> None:
    trainer = fit(small(), "fast")
    assert steps_of_lightning == [1, 6, 11]
    assert trainer.global_step == 15


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 7, "max_epochs": -1},
        {"limit_train_batches": 3},
        {"limit_train_batches": 0.5},
        {"overfit_batches": 2},
        {"val_check_interval": 2},
        {"val_check_interval": 0.5},
        {"val_check_interval": 3, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 2},
        {"limit_val_batches": 0},
        {"gradient_clip_val": 0.5},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
        {"fast_dev_run": True},
        {"min_epochs": 2, "max_epochs": 2},
        {"detect_anomaly": True},
        {"min_steps": 12, "max_epochs": 2},
        {"val_check_interval": "00:00:00:00", "check_val_every_n_epoch": None},
    ],
    ids=str,
)
def test_settings_of_the_trainer_mean_the_same(settings: dict[str, Any], steps_of_lightning: list[int]) -> None:
    fast, slow = small(), small()
    settings = {"log_every_n_steps": 2, **settings}
    trainers = [fit(fast, "fast", **settings), fit(slow, "lightning", **settings)]
    assert_equal_weights(fast, slow)
    assert trainers[0].global_step == trainers[1].global_step
    assert trainers[0].current_epoch == trainers[1].current_epoch
    assert trainers[0].callback_metrics == trainers[1].callback_metrics
    assert progress_of(trainers[0]) == progress_of(trainers[1])


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "ExponentialLR", "gamma": 0.9},
        {"name": "ExponentialLR", "gamma": 0.9, "frequency": 2},
        {"name": "ExponentialLR", "gamma": 0.5, "interval": "epoch"},
        {"name": "OneCycleLR", "max_lr": 0.01, "total_steps": "total_steps"},
        {"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.5},
        {"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.5, "interval": "step", "monitor": "train/loss"},
    ],
    ids=str,
)
def test_learning_rates_are_scheduled_alike(scheduler: dict[str, Any]) -> None:
    class Rates(L.Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    fast, slow, rates = small(scheduler=scheduler), small(scheduler=scheduler), (Rates(), Rates())
    fit(fast, "fast", [rates[0]], log_every_n_steps=1)
    fit(slow, "lightning", [rates[1]], log_every_n_steps=1)
    assert_equal_weights(fast, slow)
    assert rates[0].seen == rates[1].seen
    assert len(set(rates[0].seen)) > 1


class Witness(L.Callback):
    """Writes down all that a callback can see of batches, logs a number, and may stop the training."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.seen: list[tuple[Any, ...]] = []

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(("start", trainer.global_step, batch_idx, len(batch[0]), trainer.is_last_batch))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(("end", trainer.global_step, batch_idx, batch[0].sum().item(), outputs["loss"].item()))
        pl_module.log("witness", float(batch_idx), on_step=True, on_epoch=True)
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.seen.append(("validation", trainer.global_step))


@pytest.mark.parametrize("stop_at", [-1, 7])
def test_callbacks_see_every_batch(stop_at: int) -> None:
    fast, slow = Witness(stop_at), Witness(stop_at)
    trainers = fit(small(), "fast", [fast]), fit(small(), "lightning", [slow])
    assert fast.seen == slow.seen
    assert ("end", 7) in [entry[:2] for entry in fast.seen]
    assert trainers[0].callback_metrics == trainers[1].callback_metrics
    assert trainers[0].global_step == trainers[1].global_step == (15 if stop_at < 0 else 7)


def test_what_callbacks_log_reaches_the_loggers_alike(tmp_path: Path, train: Train) -> None:
    witness = f"+callbacks.witness._target_={Witness.__module__}.Witness"
    settings = [witness, "trainer.log_every_n_steps=2", "trainer.max_epochs=3"]
    fast, slow = (train(stepping, *settings, f"stepping={stepping}") for stepping in ("fast", "lightning"))
    assert fast.metrics == slow.metrics
    assert sum("witness_step" in row for row in fast.metrics) == 6


class Talkative(VAE):
    """Logs what it comes by, as any LightningModule may."""

    def loss_terms(self, x: Tensor) -> Any:
        if self.training:
            self.log("brightness", x.mean(), on_step=True, on_epoch=True)
        return super().loss_terms(x)


def test_what_a_model_logs_reaches_the_loggers_alike(train: Train) -> None:
    settings = [f"model._target_={Talkative.__module__}.Talkative", "trainer.log_every_n_steps=2", "data.limit=144"]
    fast, slow = (train(stepping, *settings, f"stepping={stepping}") for stepping in ("fast", "lightning"))
    assert fast.metrics == slow.metrics
    assert sum("brightness_step" in row for row in fast.metrics) == 5


class LateLogger(L.Callback):
    """Logs a number now and then, when a batch begins."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            pl_module.log("late", float(trainer.global_step), on_step=False, on_epoch=True)


def test_numbers_that_come_late_in_an_epoch_are_logged_alike(train: Train) -> None:
    settings = [f"+callbacks.late._target_={LateLogger.__module__}.LateLogger", "trainer.log_every_n_steps=2"]
    fast, slow = (train(stepping, *settings, f"stepping={stepping}") for stepping in ("fast", "lightning"))
    assert fast.metrics == slow.metrics
    assert [row["late"] for row in fast.metrics if "late" in row] == [2, 6]


class Copier(L.Callback):
    """Copies the model while it trains."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *arguments: Any) -> None:
        self.copy = deepcopy(pl_module)


def test_a_model_can_be_copied_while_it_trains() -> None:
    model, copier = small(), Copier()
    fit(model, "fast", [copier])
    assert_equal_weights(model, copier.copy)
    fit(copier.copy, "fast", max_epochs=1)


class Mishap(L.Callback):
    """Breaks a training off."""

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 8:
            self.progress = deepcopy(progress_of(trainer))
            raise RuntimeError("mishap")


def test_a_training_that_breaks_off_leaves_counters_right_and_the_model_usable() -> None:
    models, mishaps = (small(), small()), (Mishap(), Mishap())
    for model, stepping, mishap in zip(models, ("fast", "lightning"), mishaps, strict=True):
        with pytest.raises(RuntimeError, match="mishap"):
            fit(model, stepping, [mishap])
    assert mishaps[0].progress == mishaps[1].progress
    for model, stepping in zip(models, ("fast", "lightning"), strict=True):
        fit(model, stepping)
    assert_equal_weights(*models)


class Unfreezing(L.Callback):
    """Gives the decoder to the optimiser after the first epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.optimizers[0].add_param_group({"params": list(pl_module.decoder.parameters()), "lr": 1e-2})


class HalfTrained(VAE):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.encoder.parameters(), lr=1e-2)


def test_weights_that_an_optimiser_is_given_later_are_trained_alike() -> None:
    fast, slow = small(HalfTrained), small(HalfTrained)
    fit(fast, "fast", [Unfreezing()])
    fit(slow, "lightning", [Unfreezing()])
    assert_equal_weights(fast, slow)


def test_averaged_weights_are_averaged_at_every_step(train: Train) -> None:
    ema = ["+callbacks.ema._target_=vaezoo.training.callbacks.AveragedWeights", "+callbacks.ema.decay=0.9"]
    fast, slow = (train(stepping, *ema, f"stepping={stepping}") for stepping in ("fast", "lightning"))
    assert_equal_weights(fast.model("best"), slow.model("best"))


@pytest.mark.parametrize("before", STEPPING)
@pytest.mark.parametrize("variant", some_models(2))
def test_every_variant_goes_on_in_the_other_way_exactly(
    variant: str, before: str, train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"model={variant}", *small_parts(variant), "data.binarize=dynamic", "trainer.log_every_n_steps=2"]
    settings += ["callbacks.last.every_n_steps=3", "callbacks.last.min_seconds=0", "trainer.max_epochs=3"]
    whole = train("whole", *settings)
    usual = ["model.widths=[16]", "callbacks=none", "data.limit=128", "evaluation=none", *settings]
    after = next(stepping for stepping in STEPPING if stepping != before)
    run_dir = tmp_path / before
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        assert program("train", f"run_dir={run_dir}", *usual, f"stepping={before}")[0] == 130
    assert torch.load(Run(run_dir).checkpoint("last"), weights_only=True)["global_step"] == 6
    code, printed = program("train", f"resume={run_dir}", f"stepping={after}")
    assert code == 0, printed
    assert same(whole.path, run_dir)


READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__")
"""Methods of a tensor by which the host waits for what a device has computed."""


@pytest.mark.parametrize("variant", some_models(7))
def test_a_step_between_two_log_points_waits_for_nothing(
    variant: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaezoo.training.nonfinite.checks_eagerly", lambda model: False)  # as on a device
    reads: list[str] = []
    waits: dict[int, list[str]] = {}
    advance = InnerLoop._advance

    def recording(name: str) -> Callable[..., Any]:
        method = getattr(torch.Tensor, name)

        def read(self: Tensor, *arguments: Any, **options: Any) -> Any:
            reads.append(name)
            return method(self, *arguments, **options)

        return read

    def watched(self: InnerLoop, fetcher: Any) -> None:
        reads.clear()
        advance(self, fetcher)
        waits[self.trainer.global_step] = list(reads)

    monkeypatch.setattr(InnerLoop, "_advance", watched)
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, recording(name))
    train("run", f"model={variant}", "data.binarize=dynamic", "data.batch_size=8", "trainer.log_every_n_steps=5")
    assert {step for step, names in waits.items() if names} == {5, 10, 15, 20, 25, 30}
    assert len(waits) == 30  # of 32 steps, as Lightning takes the first of each epoch
    assert max(len(names) for names in waits.values()) <= 3


# what goes the usual way --------------------------------------------------------------------------------------------


class OwnBackward(VAE):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.norm = 1.0


class OwnStep(VAE):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "extra": 1}


class OwnEnd(VAE):
    ended = 0

    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        self.ended += 1


class GradientWatch(L.Callback):
    def on_after_backward(self, trainer: L.Trainer, pl_module: Any) -> None:
        assert pl_module.encoder[1].weight.grad is not None


@pytest.mark.parametrize(
    ("model", "callbacks", "settings", "reason"),
    [
        (VAE, [], {"accumulate_grad_batches": 2}, "gradients are accumulated"),
        (VAE, [GradientAccumulationScheduler({1: 2})], {}, "gradients are accumulated"),
        (VAE, [], {"profiler": "simple"}, "a profiler is on"),
        (VAE, [GradientWatch()], {}, "GradientWatch implements on_after_backward"),
        (OwnBackward, [], {}, "OwnBackward has on_before_optimizer_step of its own"),
        (OwnStep, [], {}, "OwnStep has training_step of its own"),
        (OwnEnd, [], {}, "OwnEnd has on_train_batch_end of its own"),
    ],
)
def test_what_only_lightning_can_do_is_left_to_it(
    model: type[VAE],
    callbacks: list[L.Callback],
    settings: dict[str, Any],
    reason: str,
    steps_of_lightning: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = small(model)
    with caplog.at_level("INFO"):
        trainer = fit(made, "fast", callbacks, **settings)
    assert reason_against(trainer, made, Loop) == reason
    assert reason in caplog.text
    assert not steps_of_lightning
    assert trainer.global_step > 0


def test_an_optimiser_that_evaluates_a_batch_several_times_is_left_to_lightning() -> None:
    model = small(optimizer={"name": "LBFGS", "lr": 1e-4})
    trainer = fit(model, "fast", max_epochs=1)
    assert reason_against(trainer, model, Loop) == "the optimiser evaluates each batch several times"


def test_a_default_run_says_nothing_of_stepping(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(small(), "fast", max_epochs=1)
    assert "stepping" not in caplog.text


def test_an_unknown_way_is_refused(program: Program, tmp_path: Path) -> None:
    code, printed = program("train", "stepping=quick", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert printed == "error: stepping must be one of fast, lightning, got 'quick'\n"
    assert not (tmp_path / "run").exists()


# compiled ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Programs are traced as for torch.compile, and run as they are; the list has the number of operations of each."""
    torch.compiler.reset()
    programs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        programs.append(len(graph.graph.nodes))
        return graph.forward

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, mode: compile(function, backend=backend))
    yield programs
    torch.compiler.reset()


@pytest.mark.parametrize("variant", some_models(1))
def test_each_variant_is_one_program_whatever_its_schedule(
    variant: str,
    traced: list[int],
    train: Train,
    make_model: Callable[..., Autoencoder],
    program: Program,
    tmp_path: Path,
) -> None:
    """Or its step cannot be compiled, which it says."""
    if reasons := [reason for part in make_model(variant).added_terms if (reason := part.no_compile())]:
        code, printed = program("train", f"model={variant}", "compile=true", f"run_dir={tmp_path / 'run'}")
        assert code == 1
        assert reasons[0] in printed
        return
    settings = [f"model={variant}", "data.binarize=dynamic", "data.limit=144", "model.optimizer.lr=0.01"]
    if variant == "beta_vae":
        settings += ["model.beta_schedule=linear", "model.schedule_steps=8"]
    eager = train("eager", *settings)
    assert not traced
    compiled = train("compiled", *settings, "compile=true")
    assert len(traced) == 2  # for whole batches, and for batches of any size
    ours, theirs = compiled.model("last").state_dict(), eager.model("last").state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight)
    assert compiled.summary["test"] == pytest.approx(eager.summary["test"], rel=1e-4)


def test_a_compiled_run_goes_on_as_one_that_was_not_stopped(traced: list[int], train: Train, program: Program) -> None:
    whole = train("whole", "compile=true", "trainer.max_epochs=4")
    halves = train("halves", "compile=true", "trainer.max_epochs=2")
    code, printed = program("train", f"resume={halves.path}", "trainer.max_epochs=4")
    assert code == 0, printed
    assert_equal_weights(halves.model("last"), whole.model("last"))


@pytest.mark.skipif(not which("g++"), reason="torch.compile needs a C++ compiler")
def test_a_really_compiled_autoencoder_learns_the_same(train: Train) -> None:
    eager, compiled = train("eager", "model=ae"), train("compiled", "model=ae", "compile=true")
    assert compiled.summary["test"] == pytest.approx(eager.summary["test"], rel=1e-3)


@pytest.mark.nightly
@pytest.mark.skipif(not which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("model", ["iwae", "vamp_vae", "factor_vae", "vqvae", "wae", "adversarial_ae"])
def test_really_compiled_bounds_priors_critics_and_codebooks_learn_the_same(model: str, train: Train) -> None:
    settings = [f"model={model}", *small_parts(model), "data.binarize=dynamic", "trainer.log_every_n_steps=1"]
    eager = train("eager", *settings)
    with inductor.patch(fallback_random=True):  # the random numbers of eager programs
        compiled = train("compiled", *settings, "compile=true")
    assert len(compiled.metrics) == len(eager.metrics)
    for row, same_row in zip(compiled.metrics, eager.metrics, strict=True):
        assert row == pytest.approx(same_row, rel=1e-3)
    assert compiled.summary["test"] == pytest.approx(eager.summary["test"], rel=1e-3)


def test_outputs_of_a_program_that_reuses_its_memory_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    modes, memory = [], torch.zeros(())

    def compile(function: Any, mode: str | None) -> Callable[..., Any]:
        modes.append(mode)

        def replay(inputs: tuple[Tensor, ...], weights: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            (x,) = inputs
            assert all(weight.device == x.device for weight in weights.values())
            memory.copy_(x.mean())
            return memory, {"loss": memory.expand(len(x))}

        return replay

    monkeypatch.setattr(torch, "compile", compile)
    model = small(BetaVAE)
    model.compile_losses("reduce-overhead")
    first, values = model.losses((torch.ones(2, 1, 8, 8),), model.weights())
    model.losses((torch.zeros(2, 1, 8, 8),), model.weights())
    assert modes == ["reduce-overhead"]
    assert first == 1
    assert values["loss"].tolist() == [1, 1]


@pytest.mark.parametrize("value", ["1", "max-autotune", "null"])
def test_an_unknown_way_to_compile_is_refused(value: str, program: Program, tmp_path: Path) -> None:
    code, printed = program("train", f"compile={value}", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert printed.startswith("error: compile must be false, true or reduce-overhead, got ")
