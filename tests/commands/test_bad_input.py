"""Every mistake of a user ends in one clear sentence and a non-zero exit code, and loses nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vaezoo import Run

Program = Callable[..., tuple[int, str]]


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (
            ["model=betavae"],
            "there is no model=betavae; set model= to one of adversarial_ae, ae, autoencoder_kl",
        ),
        (["data=mnits"], "there is no data=mnits; set data= to one of array, celeba, cifar10, digits"),
        (["experiment=none"], "there is no experiment=none; set experiment= to one of"),
        (["modell=vae"], "modell is not a setting; did you mean 'model'?"),
        (["model=beta_vae", "model.betta=3"], "model.betta is not a setting; did you mean 'beta'?"),
        (["trainer.max_epoch=3"], "trainer.max_epoch is not a setting; did you mean 'max_epochs'?"),
        (["+trainer.max_epoch=3"], "trainer.max_epoch is not a setting here; did you mean 'max_epochs'?"),
        (["model.optimizer.weight_decay=1"], "write +model.optimizer.weight_decay=..."),
        (["+model.optimizer.momentum=1"], "model.optimizer.momentum is not a setting here"),
        (["model.optimizer.name=Adamm"], "must be a class of torch.optim, got 'Adamm'; did you mean 'Adam'?"),
        (["model.optimizer.lr=-1"], "model.optimizer does not suit Adam: Invalid learning rate: -1"),
        (["model.scheduler={name: OneCycleLR}"], "model.scheduler does not suit OneCycleLR"),
        (["model.latent_dim=two"], "model.latent_dim must be int or null, got 'two' (str)"),
        (["model.latent_dim=2.5"], "model.latent_dim must be int or null, got 2.5 (float)"),
        (["model.latent_dim=true"], "model.latent_dim must be int or null, got True (bool)"),
        (["model.latent_dim=0"], "model.latent_dim must be at least 1, got 0"),
        (["model.widths=64"], "model.widths must be list[int] or null, got 64 (int)"),
        (["model=beta_vae", "model.beta=-1"], "model.beta must be at least 0, got -1"),
        (["model.network=cnn"], "model.network must be one of mlp, conv, resnet, got 'cnn'"),
        (["model.network=conv", "model.widths=[8,8,8,8,8]"], "5 stages, each of which halves the image; 16x16 pixels"),
        (["model.likelihood=poisson"], "model.likelihood must be one of bernoulli"),
        (
            ["model.likelihood=bernoulli", "model.likelihood_options={sigma: 1}"],
            "model.likelihood_options.sigma is not a setting here",
        ),
        (["data.batch_size=0"], "data.batch_size"),
        (["data.limit=100000"], "data.limit"),
        (["data.binarize=otsu"], "data.binarize must be one of none, threshold, dynamic, got 'otsu'"),
        (["data.image_size=4"], "4"),
        (["data=image_folder", "data.root=/does/not/exist"], "there is no folder /does/not/exist"),
        (["seed=-1"], "seed must be from 0 to 4294967295, got -1"),
        (["seed=one"], "seed must be int, got 'one'"),
        (["trainer.max_epochs=many"], "trainer.max_epochs must be int or null, got 'many' (str)"),
        (["trainer.precision=8"], "trainer.precision must be"),
        (["trainer.accelerator=warp"], "warp"),
        (["trainer.accelerator=gpu"], "trainer cannot be created: No supported gpu backend found!"),
        (["+trainer.logger=false"], "trainer.logger is set by the program and cannot be changed"),
        (["callbacks=null"], "the settings do not fit"),
        (["seed=99999999999999"], "seed must be from 0 to 4294967295"),
        (["data.limit=5", "data.batch_size=9", "data.drop_last=true"], "5 training images give no batch"),
        (["model.scheduler={name: ExponentialLR, gamma: 0.9, interval: batch}"], "interval must be step or epoch"),
        (["callbacks.samples.count=lots"], "callbacks.samples.count must be int, got 'lots' (str)"),
        (["callbacks.samples._target_=os.system"], "callbacks.samples"),
        (
            ["model.optimizer.name=SparseAdam"],
            "model.optimizer cannot train with SparseAdam: ",
        ),
        pytest.param(
            ["model.optimizer.name=Muon"],
            "model.optimizer does not suit Muon",
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon"),
        ),
        (["model.optimizer.lr=0"], "model.optimizer.lr must be above 0"),
        (["model.optimizer.lr=inf"], "model.optimizer.lr must be a finite number, got inf"),
        (["model.scheduler={name: StepLR, step_size: 0}"], "model.scheduler cannot train with StepLR"),
        (
            ["model.scheduler={name: StepLR, step_size: 1, gamma: -1}"],
            "a learning rate of -0.001; it must not fall",
        ),
        (
            ["model.scheduler={name: CosineAnnealingLR, T_max: 0}"],
            "cannot train with CosineAnnealingLR",
        ),
        (["model.latent_dim=1000000000"], "parameters would take"),
        (["model.widths=[1000000000]"], "GiB of memory; choose a smaller model.latent_dim, model.widths"),
        (["callbacks.samples.count=1000000000"], "callbacks.samples.count must be at most 4,096, got 1,000,000,000"),
        (["callbacks.traversals.extent=nan"], "callbacks.traversals.extent must be a finite number, got nan"),
        (["data.batch_size=99999999999999999999"], "data.batch_size must be a number of at most 64 bits"),
        (
            ["data.image_size=1000000"],
            "data.image_size must be a whole number from 8 up, or two as [height, width], none above 16384",
        ),
        (["data.image_size=8192", "model.network=conv"], "images of 8192x8192 pixels would take"),
        (["data.num_workers=-1"], "data.num_workers must be a whole number from 0 to 1024, got -1"),
        (["data.memory_limit_gib=inf"], "data.memory_limit_gib must be a finite number, got inf"),
        (["optimized_metric=inf"], "optimized_metric must be a name such as val/elbo, got inf"),
        (["callbacks=none", "figures.dpi=high"], "figures.dpi must be a whole number from 50 to 1200, got 'high'"),
        (["callbacks=none", "figures.dpi=5"], "figures.dpi must be a whole number from 50 to 1200, got 5"),
        (["callbacks=none", "figures.format=gif"], "figures.format must be one of png, pdf, svg, got 'gif'"),
        (["callbacks=none", "figures=5"], "figures must be the settings dpi and format, got 5"),
        (["optimized_metric=[1,2]"], "optimized_metric must be a name such as val/elbo, got [1, 2]"),
        (["optimized_metric=7"], "optimized_metric must be a name such as val/elbo, got 7"),
        (["trainer.max_epochs=0"], "trainer.max_epochs must be at least 1, got 0"),
        (["trainer.max_steps=-2"], "trainer.max_steps must be at least 1, got -2"),
        (["trainer.min_epochs=9", "trainer.max_epochs=3"], "min_epochs=9 must be at most trainer.max_epochs=3"),
        (["trainer.check_val_every_n_epoch=-1"], "trainer.check_val_every_n_epoch must be at least 1, got -1"),
        (["trainer.max_time=00:00:00:00"], "trainer.max_time must be above 0, got '00:00:00:00'"),
        (["trainer.max_time={seconds: 0}"], "trainer.max_time must be above 0, got {'seconds': 0}"),
        (["~trainer._target_"], "trainer must be settings that name a class as _target_"),
        (["trainer.limit_train_batches=0"], "trainer.limit_train_batches must be at least 1, got 0"),
        (["trainer.limit_train_batches=0.0"], "trainer.limit_train_batches must be a number of batches or a fraction"),
        (["trainer.limit_val_batches=1.5"], "trainer.limit_val_batches must be a number of batches or a fraction"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val must be at least 0, got -1"),
        (["trainer.log_every_n_steps=-1"], "trainer.log_every_n_steps must be at least 0, got -1"),
        (["hydra.run.dir=/etc/x"], "hydra.run.dir is set by the program; use run_dir= to choose the folder of a run"),
        (["hydra.mode=MULTIRUN"], "hydra.mode is set by the program"),
        (["data.name='a\x07b'"], "data.name must be a text without control characters"),
        (["resume="], "resume must be a path, got ''"),
        (["resume=''"], "resume must be a path, got ''"),
        (["resume=/does/not/exist"], "/does/not/exist is not a run folder"),
        (["model.beta=[1"], "cannot read the setting 'model.beta=[1'"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(
    mistake: list[str], sentence: str, program: Program, tmp_path: Path
) -> None:
    run_dir = [] if mistake[0].startswith("resume=") else [f"run_dir={tmp_path / 'run'}"]
    code, printed = program("train", *run_dir, *mistake)
    assert code == 1
    assert sentence in printed
    assert "Traceback" not in printed
    lines = [line for line in printed.splitlines() if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_an_empty_image_folder_is_named(program: Program, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    code, printed = program(
        "train", "data=image_folder", f"data.root={tmp_path / 'images'}", f"run_dir={tmp_path / 'run'}"
    )
    assert code == 1
    assert str(tmp_path / "images") in printed
    assert "Traceback" not in printed


def test_the_folder_of_another_run_is_not_touched(train: Callable[..., Run], program: Program, tmp_path: Path) -> None:
    run = train("run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    code, printed = program("train", "model=ae", f"run_dir={run.path}")
    assert code == 1
    assert f"run_dir={run.path} already contains a run" in printed
    assert f"resume={run.path}" in printed
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_run_folder_that_cannot_be_made_is_named(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, printed = program("train", f"run_dir={tmp_path / 'file' / 'run'}")
    assert code == 1
    assert "cannot write to run_dir=" in printed


def test_a_damaged_checkpoint_is_named(train: Callable[..., Run], program: Program) -> None:
    run = train("run")
    path = run.checkpoint("last")
    path.write_bytes(path.read_bytes()[:1000])
    (run.path / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    code, printed = program("train", f"resume={run.path}", "trainer.max_epochs=9")
    assert code == 1
    assert f"{path} is damaged or not a checkpoint" in printed


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("vaezoo.models.vae.VAE.loss_terms", broken)
    with pytest.raises(ZeroDivisionError):
        program("train", f"run_dir={tmp_path / 'run'}")
    assert Run(tmp_path / "run").summary["status"] == "failed"


@pytest.mark.parametrize("mistake", ["trainer.limit_train_batches=0.0001", "trainer.val_check_interval=1000"])
def test_what_lightning_finds_too_late_is_one_sentence_and_does_not_block_the_folder(
    mistake: str, program: Program, tmp_path: Path
) -> None:
    short = [
        f"run_dir={tmp_path / 'run'}",
        "data.limit=64",
        "callbacks=none",
        "evaluation=none",
        "trainer.max_epochs=1",
    ]
    code, printed = program("train", *short, mistake)
    assert code == 1
    assert "error: the settings do not fit: " in printed
    assert "Traceback" not in printed
    code, printed = program("train", *short)
    assert code == 0, printed


def test_an_unknown_command_is_named(program: Program) -> None:
    code, printed = program("trian")
    assert code == 2
    assert "trian" in printed


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("null", "run_dir must be a path, got None"),
        ("[a]", "run_dir must be a path, got ['a']"),
        ("{a: 1}", "run_dir must be a path, got {'a': 1}"),
        ("''", "run_dir must be a path, got ''"),
        ("/", "run_dir must be a separate folder, got /, the root of the file system"),
        ("/etc/..", "run_dir must be a separate folder, got /etc/.., the root of the file system"),
        ("x" * 300, "run_dir must have names of at most 200 bytes"),
        ("x/" * 3000, "run_dir must have names of at most 200 bytes and 3800 in all"),
    ],
    ids=lambda text: text[:12],
)
def test_a_run_folder_that_cannot_be_meant_is_named(
    name: str, sentence: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaezoo.commands.train.train", nothing_may_begin)
    code, printed = program("train", f"run_dir={name}")
    assert code == 1
    assert printed.startswith(f"error: {sentence}")
    assert not list(tmp_path.iterdir())


def nothing_may_begin(*_: object, **__: object) -> None:
    raise AssertionError("it would have been written to")


@pytest.mark.parametrize("name", ["/etc", "/usr", ".", "images"])
def test_a_folder_with_the_files_of_others_is_no_run_folder(
    name: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vaezoo.commands.train.train", nothing_may_begin)
    code, printed = program("train", f"run_dir={name}")
    assert code == 1
    assert printed.startswith(f"error: run_dir={name} contains other files, such as ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["images", "one.png"]


def test_a_folder_with_the_logs_of_a_job_may_become_a_run_folder(train: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "run" / ".submitit").mkdir(parents=True)
    for name in ("slurm-12.out", "train.log", "run.lock"):
        (tmp_path / "run" / name).touch()
    assert train("run", "trainer.max_steps=1").summary["status"] == "finished"


@pytest.mark.parametrize("out", ["/", ".", "..", "null", "[a]", "", "here/", "folder", "x" * 300])
def test_an_export_to_what_is_no_file_name_is_one_sentence(
    out: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    code, printed = program("export", "run", f"out={out}")
    assert code == 1
    assert printed.startswith("error: out must ") or "needs one run folder and out=FILE" in printed
    assert printed.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("words", [["compare", "run"], ["benchmark", "models=[ae]"], ["train", "-m", "seed=1,2"]])
@pytest.mark.parametrize("name", ["/", "null", "[a]", "", "x" * 300])
def test_no_command_writes_to_what_is_no_folder(
    words: list[str], name: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed = program(*words, f"{'run_dir' if words[0] == 'train' else 'out'}={name}")
    assert code == 1
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_double_precision_trains_with_all_pictures(train: Callable[..., Run]) -> None:
    run = train("run", "trainer.precision=64-true", "callbacks=default", "model.latent_dim=2", "trainer.max_epochs=1")
    assert len(list((run.path / "figures").iterdir())) == 6


def test_a_schedule_that_is_shorter_than_the_run_is_refused_before_its_first_step(
    program: Program, tmp_path: Path
) -> None:
    short = [
        "data.limit=64",
        "callbacks=none",
        "evaluation=none",
        "trainer.max_epochs=4",
        f"run_dir={tmp_path / 'run'}",
    ]
    code, printed = program("train", *short, "model.scheduler={name: OneCycleLR, max_lr: 0.1, total_steps: 7}")
    assert code == 1
    assert "error: model.scheduler is made for 7 steps, but this run has 8; write total_steps: total_steps" in printed
    code, printed = program("train", *short, "model.scheduler={name: OneCycleLR, max_lr: 0.1, total_steps: 8}")
    assert code == 0, printed


def test_a_training_that_takes_no_step_is_no_success(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.Trainer.fit", lambda *_, **__: None)
    code, printed = program("train", f"run_dir={tmp_path / 'run'}", "callbacks=none", "evaluation=none")
    assert code == 1
    assert "error: no step was trained" in printed
    assert Run(tmp_path / "run").summary["status"] == "failed"
