"""A run that goes on is the same run: another config or model is refused, or forced where it can be, and recorded."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import vaezoo
from tests.commands.test_train import interrupt_at
from vaezoo import Run
from vaezoo.config.errors import RunError
from vaezoo.runs import resuming

Train = Callable[..., Run]
Program = Callable[..., tuple[int, str]]


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder by what it holds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def refused(program: Program) -> Callable[..., str]:
    """The one sentence by which a command is refused that leaves a run as it was."""

    def run(folder: Path, *words: str) -> str:
        before = contents(folder)
        code, printed = program(*words)
        assert code == 1, printed
        assert contents(folder) == before
        [sentence] = [line for line in printed.splitlines() if line.startswith("error: ")]
        return sentence

    return run


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


# another config ------------------------------------------------------------------------------------------------------


def test_a_changed_config_is_listed_and_forced(train: Train, program: Program, refused: Callable[..., str]) -> None:
    run = train("run", "model=beta_vae")
    words = ["train", f"resume={run.path}", "model.beta=8", "data.batch_size=64", "trainer.max_epochs=4"]
    said = refused(run.path, *words)
    assert "another config (model.beta: 4.0 -> 8, data.batch_size: 32 -> 64); resume.force=true resumes anyway" in said
    assert refused(run.path, *words, "resume.force=false") == said

    code, printed = program(*words, "resume.force=true")
    assert code == 0, printed
    assert (run.config.model.beta, run.config.data.batch_size, run.config.trainer.max_epochs) == (8, 64, 4)
    assert run.summary["objective"] == "recon + 8 kl"
    assert run.summary["steps"] == 8 + 2 * 2
    changed = [
        {"step": 8, "key": "model.beta", "was": 4.0, "now": 8},
        {"step": 8, "key": "data.batch_size", "was": 32, "now": 64},
    ]
    assert run.summary["changed"] == resuming.recorded(run.path) == changed
    assert run.model("last").hparams["beta"] == 8

    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=5")
    assert code == 0, printed
    assert run.summary["changed"] == changed


@pytest.mark.parametrize("scheduler", ["null", "{name: ExponentialLR, gamma: 0.5}"])
def test_a_forced_learning_rate_is_what_training_goes_on_with(scheduler: str, train: Train, program: Program) -> None:
    run = train("run", f"model.scheduler={scheduler}", "trainer.log_every_n_steps=1", "trainer.max_epochs=1")
    words = ["trainer.max_epochs=2", "model.optimizer.lr=0.01", "resume.force=true"]
    code, printed = program("train", f"resume={run.path}", *words)
    assert code == 0, printed
    rates = [row["train/lr"] for row in run.metrics if "train/lr" in row]
    halved = 1 if scheduler == "null" else 0.5
    # A schedule has been stepped after the step that is logged, but for the last of Lightning's hooks.
    assert rates[3] / rates[2] == pytest.approx(halved)
    assert rates[4] / rates[3] == pytest.approx(10 * halved)
    assert rates[5] / rates[4] == pytest.approx(halved)


@pytest.mark.parametrize("scheduler", ["null", "{name: ExponentialLR, gamma: 0.5}"])
@pytest.mark.parametrize(
    ("change", "moved"),
    [("model.optimizer.lr=0.01", "train/lr"), ("model.penalty_options.lr=0.001", "train/lr_critic")],
)
def test_a_forced_learning_rate_is_that_of_model_or_critic_alone(
    change: str, moved: str, scheduler: str, train: Train, program: Program
) -> None:
    settings = ["model=factor_vae", "model.penalty_options.widths=[8]", f"model.scheduler={scheduler}"]
    run = train("run", *settings, "trainer.log_every_n_steps=1", "trainer.max_epochs=1", "test=false")
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2", change, "resume.force=true")
    assert code == 0, printed
    halved = 1 if scheduler == "null" else 0.5
    for name, start in (("train/lr", 1e-3), ("train/lr_critic", 1e-4)):
        rates = [row[name] for row in run.metrics if name in row]
        assert rates[0] == pytest.approx(halved * start)
        assert [rates[3] / rates[2], rates[5] / rates[4]] == pytest.approx([halved, halved])
        assert rates[4] / rates[3] == pytest.approx(halved * (10 if name == moved else 1))


def test_what_cannot_be_forced_is_said(train: Train, refused: Callable[..., str]) -> None:
    run = train("run")
    on = ["train", f"resume={run.path}", "resume.force=true"]
    said = refused(run.path, *on, "model.latent_dim=3")
    assert "do not fit VAE with model.latent_dim=3: encoder." in said
    assert "the network of a resumed run cannot change" in said
    assert "model.optimizer.name cannot change in a resumed run" in refused(run.path, *on, "model.optimizer.name=SGD")
    assert "model cannot be replaced" in refused(run.path, *on, "model=ae")
    assert "run_dir cannot be replaced" in refused(run.path, *on, "run_dir=elsewhere")
    assert "model.betta" in refused(run.path, *on, "model.betta=3")


def test_data_cannot_change_within_an_epoch(
    program: Program, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["model.widths=[16]", "callbacks=none", "data.limit=128", "evaluation=none", "trainer.max_epochs=2"]
    small += ["callbacks.last.every_n_steps=3", "callbacks.last.min_seconds=0"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        assert program("train", f"run_dir={tmp_path / 'run'}", *small)[0] == 130
    run = Run(tmp_path / "run")
    assert torch.load(run.checkpoint("last"), weights_only=True)["global_step"] == 6
    said = refused(run.path, "train", f"resume={run.path}", "data.batch_size=64", "resume.force=true")
    assert "data.batch_size cannot change, because" in said
    assert "saved within an epoch" in said
    assert program("train", f"resume={run.path}")[0] == 0


@pytest.mark.parametrize("words", [["resume.force=perhaps", "resume=RUN"], ["resume.force=true"]])
def test_force_is_a_word_for_runs_that_go_on(words: list[str], program: Program) -> None:
    code, printed = program("train", *words)
    assert code == 1
    assert printed.startswith("error: resume.force")
    assert printed.count("\n") == 1


def test_settings_that_are_no_part_of_the_experiment_need_no_force(train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    assert program("train", f"resume={run.path}", "trainer.max_epochs=2", "stepping=lightning")[0] == 0
    assert run.summary["changed"] == []
    assert not (run.path / resuming.CHANGES).exists()


def test_a_run_of_lightnings_own_trainer_goes_on(train: Train, program: Program) -> None:
    run = train("run", "trainer.max_epochs=1")
    cfg = run.path / "config.yaml"
    lines = [line for line in cfg.read_text().splitlines() if "nonfinite" not in line and "max_skipped" not in line]
    cfg.write_text("\n".join(lines).replace("vaezoo.training.trainer.Trainer", "lightning.pytorch.Trainer"))
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=2")
    assert code == 0, printed
    assert run.summary["steps"] == 8


# another model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["model=ae"], "AE with prior=None in the checkpoint, VAE with prior='normal' in the config"),
        (["model.latent_dim=3"], "VAE with latent_dim=3 in the checkpoint, VAE with latent_dim=10 in the config"),
        (["model.widths=[8]"], "VAE with widths=[8] in the checkpoint, VAE with widths=[16] in the config"),
        (
            ["data.image_size=8"],
            "VAE with image_shape=[1, 8, 8] in the checkpoint, VAE with image_shape=[1, 16, 16] in the config",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    other: list[str], said: str, train: Train, refused: Callable[..., str]
) -> None:
    run, stranger = train("run", "trainer.max_epochs=1"), train("other", *other, "trainer.max_epochs=1")
    for name in ("last", "best"):
        shutil.copy(stranger.checkpoint(name), run.checkpoint(name))
    for words in (["train", f"resume={run.path}", "trainer.max_epochs=2"], ["evaluate", str(run.path)]):
        sentence = refused(run.path, *words)
        assert said in sentence
        assert str(run.path / "checkpoints") in sentence
    with pytest.raises(RunError, match="of another model than the run's config"):
        vaezoo.load(run.path)


def test_force_does_not_bring_another_models_weights_in(train: Train, refused: Callable[..., str]) -> None:
    run = train("run", "trainer.max_epochs=1")

    def cut(content: dict[str, Any]) -> None:
        weights = content["state_dict"]
        weights["encoder.1.weight"] = weights["encoder.1.weight"][:3]

    edit(run.checkpoint("last"), cut)
    said = refused(run.path, "train", f"resume={run.path}", "resume.force=true", "trainer.max_epochs=2")
    assert "encoder.1.weight is of shape [3, 256] in the checkpoint and of shape [16, 256] in the model" in said


def test_a_record_of_changes_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / resuming.CHANGES).write_text("[")
    with pytest.raises(RunError, match=r"changes.json cannot be read"):
        resuming.recorded(tmp_path)


@pytest.mark.parametrize("longer", ["trainer.max_epochs=5", "trainer.max_epochs=1"])
def test_a_resume_that_is_refused_after_all_leaves_the_record_of_before(
    longer: str, train: Train, program: Any
) -> None:
    schedule = "model.scheduler={name: OneCycleLR, max_lr: 0.01, total_steps: total_steps, interval: step}"
    run = train("run", schedule, "callbacks=default", "trainer.max_epochs=2")
    before = record_of(run.path)
    code, printed = program("train", f"resume={run.path}", longer)
    assert code == 1
    assert "Traceback" not in printed
    assert record_of(run.path) == before


def record_of(folder: Path) -> dict[Path, bytes]:
    """All files but those that tell of each command that was given."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("train.log", "run.lock")]
    return {path: path.read_bytes() for path in files}


def test_a_forced_change_is_recorded_where_nothing_is_left_to_train(train: Train, program: Any) -> None:
    run = train("run")
    code, printed = program("train", f"resume={run.path}", "data.val_size=100", "resume.force=true")
    assert code == 0, printed
    assert [change["key"] for change in run.summary["changed"]] == ["data.val_size"]
    assert run.config.data.val_size == 100


def test_a_setting_that_training_depends_on_may_change_and_is_recorded(train: Train, program: Any) -> None:
    run = train("run")
    settings = ["trainer.gradient_clip_val=1.0", "trainer.max_epochs=3"]
    code, printed = program("train", f"resume={run.path}", *settings)
    assert code == 0, printed
    assert [change["key"] for change in run.summary["changed"]] == ["trainer.gradient_clip_val"]


def test_a_run_with_its_best_weights_alone_is_not_begun_anew(train: Train, program: Any) -> None:
    run = train("run", "callbacks.last=null")
    (run.path / "summary.json").unlink()
    code, printed = program("train", *last_words(run), "resume=auto")
    assert code == 1
    assert "has best.ckpt but no checkpoint to resume from" in printed
    assert run.checkpoint("best").is_file()


def last_words(run: Run) -> list[str]:
    """The settings that ``train`` made a run with."""
    small = ["model.widths=[16]", "trainer.max_epochs=2", "callbacks=none", "data.limit=128", "evaluation=none"]
    return [f"run_dir={run.path}", *small, "callbacks.last=null"]


def test_a_run_to_go_on_with_stands_on_the_command_line_as_it_is(program: Any, tmp_path: Path) -> None:
    code, printed = program("train", f"++resume={tmp_path}", f"run_dir={tmp_path / 'run'}")
    assert code == 1
    assert "given literally on the command line" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "x", "data": {"name": "y"}}, "not a class with settings"),
        ({"model": None, "data": {}}, "not a class with settings"),
        ({"model": {}, "data": {}}, "not a class with settings"),
        ({"model": {"_target_": "vaezoo.models.VAE"}, "data": "y"}, "not a class with settings"),
        ({"model": {"_target_": "vaezoo.models.VAE"}, "data": {"image_size": None, "channels": 1}}, "image_size=None"),
        ({"model": {"_target_": "vaezoo.models.VAE"}, "data": {"image_size": 8, "channels": "x"}}, "channels='x'"),
    ],
)
def test_a_config_that_no_checkpoint_can_be_held_against_is_said(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said):
        resuming.refuse_other_model(Path("last.ckpt"), OmegaConf.create(asked), "VAE", {"image_shape": [1, 8, 8]})
