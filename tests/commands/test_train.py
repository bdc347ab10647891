"""A training run leaves a whole record behind, and can be gone on with."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import vaezoo
from tests.conftest import some_models
from vaezoo import Run
from vaezoo.commands.assembly import made_data, made_model
from vaezoo.commands.check.clauses import labels_for
from vaezoo.commands.train import train as retrain
from vaezoo.config.errors import ConfigError
from vaezoo.metrics.divergences import gaussian_kl
from vaezoo.training.module import Loop

Train = Callable[..., Run]


def interrupt_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Press Ctrl-C when so many steps of a model are done."""
    record_step = Loop.record_step

    def interrupted(self: Loop, *arguments: Any) -> None:
        if self.global_step == step:
            raise KeyboardInterrupt
        record_step(self, *arguments)

    patch.setattr(Loop, "record_step", interrupted)


Program = Callable[..., tuple[int, str]]


@pytest.mark.parametrize("variant", some_models(0))
def test_a_run_folder_holds_the_whole_record(variant: str, program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    length = ("trainer.max_epochs=2", "trainer.log_every_n_steps=8", "data.limit=256")
    code, printed = program("train", f"model={variant}", f"run_dir={folder}", *length)
    assert code == 0, printed
    run = Run(folder)
    summary = run.summary
    assert summary["status"] == "finished"
    assert (summary["epochs"], summary["steps"]) == (2, 16)
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "checkpoints" / "best.ckpt").is_file() == (run.model().selection is not None)
    assert list(folder.glob("events.out.tfevents.*"))
    pictures = {path.parent.name for path in folder.glob("figures/*/step=00000016.png")}
    expected = {"reconstructions", "interpolations", "samples", "traversals", "latent_map"}
    model, test = run.model(), set(summary["test"])
    terms = model.loss_terms(*model.inputs((torch.rand(2, *model.image_shape), labels_for(model, 2))))
    elbo, other = ("elbo", "elbo_given_label")[:: -1 if model.is_conditional else 1]
    expected -= {"traversals"} if model.is_spherical else set()
    in_parts = terms.has_posterior and terms.kl_by in ("dimension", "level")
    in_levels = len(getattr(model.prior(), "sizes", ())) > 1 and not model.one_hots
    expected |= {"levels"} if in_levels else set()
    expected |= {"indices"} if model.index_layout and model.index_layout.codebooks[0].positions > 1 else set()
    assert pictures == expected | ({"latent_kl"} if in_parts else set())
    assert {"recon", "mse", "psnr"} <= test
    assert terms.has_rate == ({elbo, "kl"} <= test) == bool({elbo, "kl"} & test)
    assert other not in test
    assert terms.has_posterior == ("active_units" in test)
    assert ("loss" in test) != bool(terms.batch_statistics)
    levels = [""] if list(terms.usage) == [""] else [f"_{level}" for level in terms.usage]
    assert {name for name in test if name.startswith(("perplexity", "codes_used"))} == {
        f"{name}{level}" for name in ("perplexity", "codes_used") for level in levels
    }
    assert set(summary["val"]) == set(summary["test"])
    logged = set[str]().union(*run.metrics)
    assert {f"train/{name}" for name in (*terms.named(), *model.statistics(), *model.weights())} <= logged
    assert summary["cost"]["images_per_second"] > 0
    critics = sum(part.numel() for name in model.critics for part in model.get_submodule(name).parameters())
    assert summary["parameters"] == sum(part.numel() for part in model.parameters()) - critics
    assert summary["code_shape"] == list(model.code_shape)
    assert str(folder) in printed
    assert f"tensorboard --logdir {folder.parent}\n" in printed


def test_summary_has_what_others_rely_on(train: Train) -> None:
    summary = train("run", "seed=7").summary
    assert {"status", "model", "data", "seed", "parameters", "val", "test", "cost", "environment"} <= set(summary)
    assert summary["seed"] == 7
    of_which = {"validation_seconds", "pictures_seconds", "loader_wait_seconds"}
    beside = {"runs_at_once", "sessions"}
    assert set(summary["cost"]) == {"seconds", *of_which, *beside, "images_per_second", "peak_memory_bytes"}
    assert 0 < summary["cost"]["validation_seconds"] < summary["cost"]["seconds"]
    assert summary["cost"]["pictures_seconds"] == 0
    assert {"torch", "lightning", "device", "commit"} <= set(summary["environment"])


def test_test_numbers_are_exact_over_the_test_set(train: Train) -> None:
    run = train("run", "model=beta_vae", "data.eval_batch_size=7")
    model = run.model()
    data = vaezoo.ImageDataModule(source="digits", image_size=16, channels=1, val_size=297, test_size=300)
    data.setup()
    x, _ = data.examples(300, split="test")
    with torch.no_grad():
        posterior = model.posterior(x)
        assert posterior is not None
        mse = (model.reconstruct(x) - x).square().mean((1, 2, 3))
    test = run.summary["test"]
    assert len(x) == 300
    assert test["kl"] == pytest.approx(gaussian_kl(*posterior.moments()).sum(1).mean().item(), rel=1e-5)
    assert test["mse"] == pytest.approx(mse.mean().item(), rel=1e-5)
    assert test["psnr"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-5)
    assert test["elbo"] == pytest.approx(-test["recon"] - test["kl"], rel=1e-5)
    assert test["loss"] == pytest.approx(test["recon"] + 4 * test["kl"], rel=1e-5)
    assert test["active_units"] == (posterior.mean.var(0, unbiased=False) > 0.01).sum()


def test_bits_per_dimension_are_there_where_the_images_are_binary_alone(train: Train) -> None:
    grey, binary = train("grey").summary["test"], train("binary", "data.binarize=threshold").summary["test"]
    assert "bits_per_dim" not in grey
    assert binary["bits_per_dim"] == pytest.approx(-binary["elbo"] / (256 * math.log(2)), rel=1e-5)
    density = train("density", "data.binarize=threshold", "model.likelihood=gaussian").summary["test"]
    assert "bits_per_dim" not in density


def test_grey_images_under_a_bernoulli_are_said_once(program: Program, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "callbacks=none", "data.limit=64"]
    _, grey = program("train", f"run_dir={tmp_path / 'a'}", "model.likelihood=bernoulli", *short)
    _, binary = program("train", f"run_dir={tmp_path / 'b'}", "data.binarize=dynamic", *short)
    assert grey.count("images are not binary") == 1
    _, automatic = program("train", f"run_dir={tmp_path / 'c'}", *short)
    assert "images are not binary" not in binary + automatic


def test_the_likelihood_that_was_chosen_is_kept_and_the_same_command_resumes(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run_dir={tmp_path / 'run'}", "resume=auto", "callbacks=none", "data.limit=64", "evaluation=none"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        assert program("train", *words)[0] == 130
    assert Run(tmp_path / "run").config.model.likelihood == "learned_gaussian"
    code, printed = program("train", *words, "trainer.max_epochs=3")
    assert code == 0, printed
    assert Run(tmp_path / "run").summary["likelihood"] == "learned_gaussian"


def test_the_meaning_of_beta_is_printed_in_nats(program: Program, tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "callbacks=none", "data.limit=64"]
    _, printed = program("train", f"run_dir={tmp_path / 'a'}", "model=beta_vae", "model.beta=2", *short)
    assert "recon + 2 kl, in nats per image" in printed
    assert f"averaged over pixels: {2 / 256:.4g}" in printed


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(train: Train) -> None:
    one, same, other = train("a", "seed=1"), train("b", "seed=1"), train("c", "seed=2")
    assert one.summary["test"] == same.summary["test"]
    assert one.summary["test"] != other.summary["test"]


def test_seed_zero_is_a_seed(train: Train) -> None:
    assert train("a", "seed=0").summary["test"] == train("b", "seed=0").summary["test"]


def test_validation_does_not_change_training(train: Train) -> None:
    often, rarely = train("a"), train("b", "trainer.check_val_every_n_epoch=2")
    weights = [run.model("last").state_dict() for run in (often, rarely)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("model", ["vae", "beta_vae"])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(model: str, train: Train, program: Program) -> None:
    settings = [f"model={model}", "model.scheduler={name: ExponentialLR, gamma: 0.99}"]
    if model == "beta_vae":
        settings += ["model.beta_schedule=linear", "model.schedule_steps=10"]
    whole = train("whole", *settings, "trainer.max_epochs=4")
    halves = train("halves", *settings, "trainer.max_epochs=2")
    code, printed = program("train", f"resume={halves.path}", "trainer.max_epochs=4")
    assert code == 0, printed
    one, two = whole.model("last").state_dict(), halves.model("last").state_dict()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)
    assert halves.summary["steps"] == whole.summary["steps"]


def test_a_resumed_run_logs_each_step_once(train: Train, program: Program) -> None:
    run = train("run", "trainer.log_every_n_steps=1")
    program("train", f"resume={run.path}", "trainer.max_epochs=3")
    steps = [row["step"] for row in run.metrics if "train/loss" in row]
    assert steps == list(range(1, 13))
    events = EventAccumulator(str(run.path))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13))


def test_a_resumed_run_refuses_to_become_another_experiment(train: Train, program: Program) -> None:
    run = train("run")
    code, printed = program("train", f"resume={run.path}", "model.latent_dim=3")
    assert code == 1
    assert "model.latent_dim: 10 -> 3" in printed
    assert run.summary["status"] == "finished"


def test_training_scalars_are_means_since_the_last_log_point(train: Train) -> None:
    fine, coarse = train("fine", "trainer.log_every_n_steps=1"), train("coarse", "trainer.log_every_n_steps=4")
    singles = [row["train/recon"] for row in fine.metrics if "train/recon" in row]
    together = [row["train/recon"] for row in coarse.metrics if "train/recon" in row]
    assert len(singles) == 8
    assert together == pytest.approx([sum(singles[:4]) / 4, sum(singles[4:]) / 4], rel=1e-5)


def test_schedules_are_logged_and_follow_the_step(train: Train) -> None:
    settings = ["model=beta_vae", "model.beta_schedule=linear", "model.schedule_steps=8", "trainer.log_every_n_steps=2"]
    rows = train("run", *settings).metrics
    assert [row["train/beta"] for row in rows if "train/beta" in row] == [1.0, 2.0, 3.0, 4.0]


def test_a_learning_rate_schedule_over_the_whole_run_reaches_its_end(train: Train) -> None:
    schedule = "model.scheduler={name: CosineAnnealingLR, T_max: total_steps}"
    rows = train("run", schedule, "trainer.log_every_n_steps=1").metrics
    rates = [row["train/lr"] for row in rows if "train/lr" in row]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-8)


def test_averaged_weights_are_what_is_tested_and_loaded(train: Train) -> None:
    run = train("run", "callbacks=ema", "callbacks.ema.decay=0.5", "trainer.max_epochs=3")
    content = torch.load(run.checkpoint("best"), weights_only=True)
    averaged, raw = content["state_dict"], content["current_model_state"]
    name = "encoder.1.weight"
    assert not torch.equal(averaged[name], raw[name])
    assert torch.equal(run.model().state_dict()[name], averaged[name])
    again = train("again", "callbacks=ema", "callbacks.ema.decay=0.5", "trainer.max_epochs=3", "test=false")
    best = max(row["val/elbo"] for row in again.metrics if "val/elbo" in row)
    assert run.summary["val"]["elbo"] == pytest.approx(best, rel=1e-6)
    assert again.summary["test"] == {}


def test_the_best_weights_are_those_of_the_best_elbo_at_beta_one(train: Train) -> None:
    run = train("run", "model=beta_vae", "model.beta=30", "trainer.max_epochs=6", "model.optimizer.lr=0.03")
    elbos = [row["val/elbo"] for row in run.metrics if "val/elbo" in row]
    assert run.summary["val"]["elbo"] == pytest.approx(max(elbos), rel=1e-6)


def test_fast_dev_run_runs_and_saves_nothing(train: Train) -> None:
    run = train("run", "trainer.fast_dev_run=true")
    assert run.summary["status"] == "finished"
    assert not (run.path / "checkpoints").exists()


def test_a_non_finite_loss_stops_and_keeps_the_last_good_weights(program: Program, train: Train) -> None:
    run = train("run")
    good = run.checkpoint("last").read_bytes()
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 1.0e+30"))
    content = torch.load(run.checkpoint("last"), weights_only=True)
    content["hyper_parameters"]["optimizer"]["lr"] = 1e30
    content["optimizer_states"][0]["param_groups"][0]["lr"] = 1e30
    torch.save(content, run.checkpoint("last"))
    good = run.checkpoint("last").read_bytes()
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=9")
    assert code == 1
    assert "the loss is not finite at step 9, because of " in printed
    assert "Traceback" not in printed
    assert run.checkpoint("last").read_bytes() == good
    assert run.summary["status"] == "failed"
    assert "not finite" in run.summary["error"]
    assert all(torch.isfinite(p).all() for p in run.model("last").parameters())


def test_ctrl_c_leaves_a_record_and_a_run_that_can_go_on(
    train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", "trainer.max_epochs=3")
    small = ["model.widths=[16]", "trainer.max_epochs=3", "callbacks=none", "data.limit=128", "evaluation=none"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 6)
        code, printed = program("train", f"run_dir={tmp_path / 'run'}", *small)
    assert code == 130
    assert f"python train.py resume={tmp_path / 'run'}" in printed
    run = Run(tmp_path / "run")
    assert run.summary["status"] == "interrupted"
    code, printed = program("train", f"resume={run.path}")
    assert code == 0, printed
    assert run.summary["test"] == whole.summary["test"]


def test_config_yaml_makes_the_same_run_again(train: Train, tmp_path: Path) -> None:
    run = train("run", "model=beta_vae", "model.beta=3", "seed=5")
    again = retrain(run.config, tmp_path / "again")
    assert again["test"] == run.summary["test"]
    assert Run(tmp_path / "again").config.model == run.config.model


@pytest.mark.parametrize("moved", [False, True])
def test_a_run_goes_on_from_elsewhere_and_after_it_was_moved(
    moved: bool, train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("whole", "trainer.max_epochs=3")
    monkeypatch.chdir(tmp_path)
    short = ["model.widths=[16]", "callbacks=none", "data.limit=128", "evaluation=none"]
    assert program("train", "run_dir=here/run", *short, "trainer.max_epochs=2")[0] == 0
    if moved:
        (tmp_path / "here").rename(tmp_path / "there")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    path = Path("..") / ("there" if moved else "here") / "run"
    code, printed = program("train", f"resume={path}", "trainer.max_epochs=3")
    assert code == 0, printed
    assert list(other.iterdir()) == []
    assert Run(path).summary["test"] == whole.summary["test"]
    assert [row["step"] for row in Run(path).metrics if "val/elbo" in row] == [4, 8, 12]


def test_a_schedule_that_spans_the_run_cannot_be_made_longer(train: Train, program: Program) -> None:
    run = train("run", "model.scheduler={name: OneCycleLR, max_lr: 0.01, total_steps: total_steps}")
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=4")
    assert code == 1
    assert "model.scheduler was made for a run of 8 steps, not 16" in printed
    assert "Traceback" not in printed
    assert program("train", f"resume={run.path}")[0] == 0


def test_a_run_interrupted_in_the_middle_of_an_epoch_goes_on_exactly(
    train: Train, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["data.binarize=dynamic", "callbacks.last.every_n_steps=3", "callbacks.last.min_seconds=0"]
    settings += ["trainer.max_epochs=4", "trainer.log_every_n_steps=2"]
    whole = train("whole", *settings)
    interrupt_at(monkeypatch, 7)
    small = ["model.widths=[16]", "callbacks=none", "data.limit=128", "evaluation=none"]
    assert program("train", f"run_dir={tmp_path / 'run'}", *small, *settings)[0] == 130
    monkeypatch.undo()
    run = Run(tmp_path / "run")
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == 6
    code, printed = program("train", f"resume={run.path}")
    assert code == 0, printed
    one, two = whole.model("last").state_dict(), run.model("last").state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert run.metrics == whole.metrics


def test_a_run_interrupted_before_anything_was_saved_says_so(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_at(monkeypatch, 1)
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", "callbacks=none", "data.limit=128")
    assert code == 130
    assert "there is nothing to resume" in printed


def test_weights_that_diverge_in_the_very_last_step_are_no_finished_run(program: Program, tmp_path: Path) -> None:
    short = ["model.widths=[8]", "trainer.max_epochs=1", "callbacks=none", "data.limit=64", "data.batch_size=64"]
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", *short, "model.optimizer.lr=1e30")
    assert code == 1
    assert "is not finite after step 1" in printed
    run = Run(tmp_path / "run")
    assert run.summary["status"] == "failed"
    assert not run.checkpoints()


def test_without_checkpoints_the_last_weights_are_tested(train: Train) -> None:
    run = train("run", "callbacks.best=null", "callbacks.last=null")
    assert run.summary["status"] == "finished"
    assert math.isfinite(run.summary["test"]["elbo"])


def test_accumulated_batches_are_logged_once_a_step_with_all_their_images(train: Train) -> None:
    run = train("run", "trainer.accumulate_grad_batches=2", "trainer.log_every_n_steps=1")
    rows = [row for row in run.metrics if "train/recon" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_train(precision: str, train: Train) -> None:
    assert math.isfinite(train("run", f"trainer.precision={precision}").summary["test"]["elbo"])


def test_a_multirun_makes_a_folder_for_each_run(program: Program, tmp_path: Path) -> None:
    small = ["model.widths=[16]", "trainer.max_epochs=1", "callbacks=none", "data.limit=128"]
    code, printed = program("train", "-m", f"run_dir={tmp_path}", "model=ae,vae", *small)
    assert code == 0, printed
    found = {path.parent.name: json.loads(path.read_text())["model"] for path in tmp_path.glob("*/summary.json")}
    assert found == {"0_ae": "AE", "1_vae": "VAE"}


def test_a_data_module_of_another_kind_is_one_sentence() -> None:
    settings = OmegaConf.create({"_target_": "lightning.pytorch.LightningDataModule"})
    with pytest.raises(ConfigError, match="or a subclass, got lightning"):
        made_data(settings)


def test_a_model_of_another_kind_is_one_sentence() -> None:
    settings = OmegaConf.create({"_target_": "builtins.dict"})
    with pytest.raises(ConfigError, match=r"must be a subclass of vaezoo\.Autoencoder, got builtins\.dict"):
        made_model(settings, [1, 8, 8])
