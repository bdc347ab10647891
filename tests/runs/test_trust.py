"""A run folder or checkpoint from a stranger runs no code, writes nothing elsewhere and takes no more than its size."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

import vaezoo
from tests.conftest import some, some_models
from vaezoo import Run
from vaezoo.config import automatic, hydra_config
from vaezoo.config.choices import GRIDS
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.models import VAE, Autoencoder, construction, loading
from vaezoo.runs import checkpoints, resuming, trust

Program = Callable[..., tuple[int, str]]
OWNED = "owned"


def composed(*overrides: str, run_dir: Path) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=[f"run_dir='{run_dir}'", *overrides])
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    automatic.resolve(plain)
    return plain


def put(node: Any, key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[name] = value


@pytest.fixture
def stranger(tmp_path: Path) -> Callable[..., Path]:
    """A run folder with the default config and these settings in it, by dotted name."""

    def make(settings: dict[str, Any]) -> Path:
        path = tmp_path / "run"
        plain = composed(run_dir=path)
        for key, value in settings.items():
            put(plain, key, value)
        path.mkdir(exist_ok=True)
        (path / "config.yaml").write_text(yaml.safe_dump(plain))
        return path

    return make


def one_sentence(printed: str) -> str:
    lines = [line for line in printed.splitlines() if line.strip()]
    assert len(lines) == 1, printed
    assert lines[0].startswith("error: ")
    return lines[0]


# classes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "name"),
    some(
        (group, name)
        for group in ("model", "data", "trainer", "callbacks", "logger")
        for name in hydra_config.options(group)
    ),
)
def test_every_config_of_our_own_is_allowed(group: str, name: str, tmp_path: Path) -> None:
    plain = composed(f"{group}={name}", run_dir=tmp_path)
    trust.check_config(plain, tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": {"_target_": "os.system", "command": "touch owned"}}, "asks for 'os.system' in model"),
        ({"callbacks.x": {"_target_": "subprocess.Popen", "args": ["touch", OWNED]}}, "in callbacks.x"),
        (
            {"callbacks.x": {"_target_": "vaezoo.commands.command_line.os.system", "command": "touch owned"}},
            "cannot be imported: ",
        ),
        (
            {"callbacks.x": {"_target_": "vaezoo.models.construction.import_module", "name": OWNED}},
            "only a Callback may be created",
        ),
        ({"callbacks.x": {"_target_": "vaezoo.commands.assembly.Checkpoint"}}, "only a Callback may be created"),
        ({"callbacks.x": {"_target_": "vaezoo.commands.train.train"}}, "only a Callback may be created"),
        ({"callbacks.x": {"_target_": "vaezoo.models.VAE"}}, "only a Callback may be created"),
        ({"callbacks.x": {"_target_": "vaezoo.models.VAE.__class__"}}, "cannot be imported: "),
        ({"callbacks.x": {"_target_": "lightning.pytorch.callbacks.LambdaCallback"}}, "packages=[lightning]"),
        ({"callbacks.x": {"_target_": "lightning.pytorch.callbacks.Timer"}}, "packages=[lightning]"),
        ({"callbacks.x": {"_target_": "torch.nn.modules.module.torch.hub.load"}}, "in callbacks.x"),
        ({"callbacks.x": {"_target_": "vaezoo_evil.Callback"}}, "packages=[vaezoo_evil]"),
        ({"callbacks.x": {"_target_": {"nested": 1}}}, "in callbacks.x"),
        ({"trainer.strategy": {"_target_": "vaezoo.training.callbacks.Samples"}}, "only a Strategy may be created"),
        ({"logger.x": {"_target_": "vaezoo.training.callbacks.Samples"}}, "only a Logger may be created"),
        ({"callbacks.x": {"_target_": "lightning.pytorch.Trainer"}}, "only a Callback may be created"),
        ({"model._target_": "lightning.pytorch.Trainer"}, "only a LightningModule may be created"),
        ({"data._target_": "builtins.exec"}, "asks for 'builtins.exec' in data"),
        ({"trainer._target_": "torch.load"}, "asks for 'torch.load' in trainer"),
        ({"model.likelihood_options": {"x": {"_target_": "os.system"}}}, "in model.likelihood_options.x"),
        ({"model.widths": [{"_target_": "os.system", "command": "touch owned"}]}, "in model.widths.0"),
        ({"trainer.plugins": [{"_target_": "pickle.load"}]}, "in trainer.plugins.0"),
        ({"other": {"deep": [{"_target_": "os.system"}]}}, "in other.deep.0"),
        (
            {"data.root": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}},
            "no object may be created",
        ),
        ({"data.source": {"_target_": "vaezoo.models.VAE"}}, "in data.source, where no object may be created"),
        ({"callbacks.samples.count": {"_target_": "torch.nn.Identity"}}, "no object may be created"),
        ({"trainer.max_epochs": {"_target_": "torch.nn.Identity"}}, "no object may be created"),
        ({"seed": {"_target_": "torch.nn.Identity"}}, "in seed, where no object may be created"),
        ({"callbacks.last._partial_": True}, "sets callbacks.last._partial_"),
        ({"callbacks.last._args_": ["x"]}, "sets callbacks.last._args_"),
        ({"model._recursive_": False}, "sets model._recursive_"),
        ({"model.optimizer": {"name": "__builtins__", "lr": 1.0}}, "must be a class of torch.optim"),
        ({"model.optimizer": {"name": "lr_scheduler", "lr": 1.0}}, "must be a class of torch.optim"),
        ({"data.root": "${oc.env:HOME}"}, "contains no ${...}"),
        ({"data.root": "${oc.decode:'1'}"}, "contains no ${...}"),
        ({"data.name": "\x1b[2J"}, "no control characters"),
    ],
)
def test_a_resumed_config_makes_nothing_but_what_is_allowed(
    settings: dict[str, Any], said: str, stranger: Callable[..., Path], program: Program, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = stranger(settings)
    (path / "checkpoints").mkdir()
    content = {"model_class": "vaezoo.models.vae.VAE", "hyper_parameters": {}, "state_dict": {}, **NOTHING_TRAINED}
    torch.save(content, path / "checkpoints" / "last.ckpt")
    code, printed = program("train", f"resume={path}")
    assert code == 1
    assert said in one_sentence(printed)
    assert not (tmp_path / OWNED).exists()


def test_what_a_user_types_is_not_asked_for_trust(stranger: Callable[..., Path]) -> None:
    run = Run(stranger({"callbacks.x": {"_target_": "os.system"}, "logger.csv.save_dir": "/elsewhere"}))
    elsewhere = "+logger.csv.save_dir=/elsewhere"
    run.refuse_untrusted(overrides=["callbacks.x={_target_: mine.Callback}", elsewhere])
    run.refuse_untrusted(overrides=["callbacks.x._target_=mine.Callback", elsewhere])
    run.refuse_untrusted(overrides=["callbacks.x=null", elsewhere])
    for typed in ("callbacks.x={count: 3}", "callbacks.x.count=3", "callbacks=null"):
        with pytest.raises(RunError, match=r"os\.system"):
            run.refuse_untrusted(overrides=[typed, elsewhere])


def test_a_package_that_the_user_names_may_be_used(
    stranger: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ownpackage.py").write_text(
        "import os\nfrom lightning.pytorch import Callback\nclass Mine(Callback): ...\ndef mine(): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = Run(stranger({"callbacks.x": {"_target_": "ownpackage.Mine"}}))
    with pytest.raises(RunError, match=r"name its package: packages=\[ownpackage\]"):
        run.refuse_untrusted()
    run.refuse_untrusted(trust.allowed_packages(["ownpackage"]))
    for name in ("ownpackage.mine", "ownpackage.os.system", "ownpackage.Callback"):
        run = Run(stranger({"callbacks.x": {"_target_": name}}))
        with pytest.raises(RunError, match=r"callbacks.x"):
            run.refuse_untrusted(trust.allowed_packages(["ownpackage"]))


@pytest.mark.parametrize("value", ["[os.system()]", "7", "{a: 1}", "['']"])
def test_packages_are_names_in_a_list(value: str, program: Program, tmp_path: Path) -> None:
    code, printed = program("train", f"resume={tmp_path}", f"packages={value}")
    assert code == 1
    assert "packages must be a list of names of Python packages" in one_sentence(printed)


def test_evaluate_and_load_ask_as_well(stranger: Callable[..., Path], program: Program, tmp_path: Path) -> None:
    path = stranger({"data": {"_target_": "os.mkdir", "path": str(tmp_path / OWNED)}})
    code, printed = program("evaluate", str(path), "quick=true")
    assert code == 1
    assert "asks for 'os.mkdir' in data" in one_sentence(printed)
    with pytest.raises(RunError, match="asks for"):
        Run(path).data()
    assert not (tmp_path / OWNED).exists()


# places --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("callbacks.last.dirpath", "/home/someone/.ssh"),
        ("callbacks.best.dirpath", "checkpoints"),
        ("callbacks.best.dirpath", "{run}/../elsewhere"),
        ("logger.csv.save_dir", "~/.config"),
        ("logger.tensorboard.save_dir", "s3://bucket/{run}"),
        ("logger.csv.save_dir", "{run}-beside"),
        ("trainer.strategy", "/tmp/strategy.json"),
    ],
)
def test_a_resumed_config_writes_into_its_own_folder_alone(
    key: str, place: str, stranger: Callable[..., Path], tmp_path: Path
) -> None:
    path = stranger({key: place.format(run=tmp_path / "run")})
    with pytest.raises(RunError, match=f"writes outside of the run folder .{key}="):
        Run(path).refuse_untrusted()


@pytest.mark.parametrize("said", ["/", "//", "", "/home/someone/..", "relative"])
def test_a_config_cannot_call_everything_its_run_folder(said: str, tmp_path: Path) -> None:
    place = f"{'/' if said == '//' else ''}/etc/checkpoints"
    plain = {"run_dir": said, "callbacks": {"last": {"dirpath": place}}}
    with pytest.raises(RunError, match=r"writes outside of the run folder .callbacks\.last\.dirpath="):
        trust.check_config(plain, tmp_path)


def test_a_moved_run_may_go_on_writing_to_itself(stranger: Callable[..., Path], tmp_path: Path) -> None:
    stranger({}).rename(tmp_path / "moved")
    Run(tmp_path / "moved").refuse_untrusted()


@pytest.mark.parametrize("link", ["train.log", "metrics.csv", "checkpoints", "summary.json.new", "figures/samples"])
def test_nothing_is_written_through_a_link_out_of_the_run(
    link: str, stranger: Callable[..., Path], program: Program, tmp_path: Path
) -> None:
    path = stranger({})
    target = tmp_path / "precious"
    target.write_text("mine")
    (path / link).parent.mkdir(exist_ok=True)
    (path / link).symlink_to(target)
    for command in (("train", f"resume={path}"), ("evaluate", str(path))):
        code, printed = program(*command)
        assert code == 1
        assert "is a link that leads out of the run folder" in one_sentence(printed)
    assert target.read_text() == "mine"
    (path / link).unlink()
    if link == "checkpoints":
        return
    (path / link).symlink_to(path / "config.yaml")
    trust.refuse_links(path)


def test_what_resume_auto_finds_is_not_written_to_through_a_link(
    stranger: Callable[..., Path], program: Program, tmp_path: Path
) -> None:
    path = stranger({})
    (path / "train.log").symlink_to(tmp_path / "precious")
    code, printed = program("train", f"run_dir={path}", "resume=auto")
    assert code == 1
    assert "is a link that leads out of the run folder" in one_sentence(printed)
    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize("name", ["checkpoints/last.ckpt", "train.log", "metrics.csv"])
def test_a_pipe_in_a_run_is_refused_and_not_waited_for(
    name: str, stranger: Callable[..., Path], program: Program
) -> None:
    path = stranger({})
    (path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(path / name)
    for command in (("train", f"resume={path}"), ("evaluate", str(path))):
        code, printed = program(*command)
        assert code == 1
        assert f"{name} is neither a file nor a folder" in one_sentence(printed)
    with pytest.raises(RunError, match="has no last checkpoint"):
        checkpoints.last_good(path)


@pytest.mark.parametrize("part", ["model", "data", "trainer"])
def test_a_config_whose_parts_are_no_classes_is_refused(
    part: str, stranger: Callable[..., Path], program: Program
) -> None:
    for wrong in ("text", None, {}):
        code, printed = program("train", f"resume={stranger({part: wrong})}")
        assert code == 1
        assert f"has no {part}" in one_sentence(printed)


def test_metrics_that_cannot_be_gone_on_with_are_named(stranger: Callable[..., Path]) -> None:
    path = stranger({})
    for text in ("a\n1\n", "step,a\n1.5,1\n", "step\n<b>\n"):
        (path / "metrics.csv").write_text(text)
        with pytest.raises(RunError, match=r"metrics\.csv (has a row without a step|cannot be read)"):
            Run(path).refuse_untrusted()


# checkpoints ---------------------------------------------------------------------------------------------------------


NOTHING_TRAINED: dict[str, Any] = {**checkpoints.TRAINING, "random_states": [[torch.get_rng_state()]]}


def checkpoint(path: Path, **changes: Any) -> Path:
    model = VAE(image_shape=[1, 8, 8], latent_dim=2, widths=[4])
    content = {
        "model_class": "vaezoo.models.vae.VAE",
        "hyper_parameters": dict(model.hparams),
        "state_dict": model.state_dict(),
        "callbacks": {},
    }
    torch.save(content | changes, path)
    return path


def settings_of(**changes: Any) -> dict[str, Any]:
    return {"image_shape": [1, 8, 8], "latent_dim": 2, "widths": [4], **changes}


def test_a_sound_checkpoint_is_loaded(tmp_path: Path) -> None:
    assert vaezoo.load(checkpoint(tmp_path / "a.ckpt")).latent_dim == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latent_dim": 10**9}, "is [4, 4] in the file"),
        ({"widths": [10**9, 10**9]}, "and [1000000000, 64] by its settings"),
        ({"image_shape": [1, 10**6, 10**6]}, "does not fit"),
        ({"network": "conv"}, "and [4, 1, 4, 4] by its settings"),
        ({"widths": [1] * 20_000}, "more settings, or more deeply nested ones"),
        ({"likelihood_options": {"sigma": torch.zeros(3)}}, "contains a Tensor"),
        ({"network": "x" * 100_000}, "does not fit"),
        ({"latent_dim": 1 << 100}, "does not fit"),
        ({"latent_dim": "9" * 5000}, "does not fit"),
        ({3: 4}, "a name that is not text"),
    ],
)
def test_settings_that_do_not_fit_the_weights_allocate_nothing(
    changes: dict[Any, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters={**settings_of(), **changes})
    real: list[str] = []
    made = torch.nn.Linear.__init__

    def watched(self: Any, *arguments: Any, **more: Any) -> None:
        made(self, *arguments, **more)
        real.append(self.weight.device.type)

    monkeypatch.setattr(torch.nn.Linear, "__init__", watched)
    with pytest.raises(RunError, match=r"cannot be read|does not fit") as caught:
        vaezoo.load(path)
    assert said in str(caught.value)
    assert set(real) <= {"meta"}


@pytest.mark.parametrize("said", [{"image_shape": [1, 16, 16]}, {}])
@pytest.mark.parametrize("settings", [{"model.latent_dim": 10**9}, {"model.widths": [10**9, 10**9]}])
def test_a_config_cannot_ask_for_a_larger_model_than_the_checkpoint_has(
    settings: dict[str, Any], said: dict[str, Any], stranger: Callable[..., Path], program: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = stranger(settings)
    (path / "checkpoints").mkdir()
    asked = {key: value for key, value in Run(path).config.model.items() if not str(key).startswith("_")}
    lie = OmegaConf.to_container(OmegaConf.create({**asked, **said})) if said else {}
    checkpoint(path / "checkpoints" / "last.ckpt", **NOTHING_TRAINED, hyper_parameters=lie)
    monkeypatch.setattr("vaezoo.commands.train.assemble", lambda *_, **__: pytest.fail("it was made"))
    code, printed = program("train", f"resume={path}")
    assert code == 1
    assert "do not fit VAE" in one_sentence(printed)


def test_the_shape_of_images_is_the_configs_or_else_the_checkpoints() -> None:
    ours, foreign = (OmegaConf.create({"data": data}) for data in ({"image_size": [4, 6], "channels": 3}, {}))
    assert resuming.image_shape(Path("a.ckpt"), ours, {}) == [3, 4, 6]
    assert resuming.image_shape(Path("a.ckpt"), foreign, {"image_shape": [1, 8, 8]}) == [1, 8, 8]
    for nothing in ({}, {"image_shape": "1x8"}):
        with pytest.raises(RunError, match=r"a\.ckpt contains no image_shape"):
            resuming.image_shape(Path("a.ckpt"), foreign, nothing)


def test_a_model_of_the_users_own_may_read_values_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without memory there are none, so that it can only be made as it is."""
    (tmp_path / "readingvalues.py").write_text(
        "import torch\nfrom vaezoo.models import VAE\nclass Mine(VAE):\n    def __init__(self, **shared):\n"
        "        super().__init__(**shared)\n        self.rates = torch.linspace(0, 1, 3).tolist()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    asked = OmegaConf.create({"model": {"_target_": "readingvalues.Mine", "_convert_": "all", "latent_dim": 2}})
    assert loading.make_on_meta_device(asked, [1, 8, 8]) is None
    asked.model.update({"_target_": "vaezoo.models.VAE", "latent_dim": -1})
    with pytest.raises(InstantiationException):
        loading.make_on_meta_device(asked, [1, 8, 8])


def test_a_list_that_holds_itself_many_times_is_refused(tmp_path: Path) -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(30):
        laughs = [laughs] * 10
    path = checkpoint(tmp_path / "a.ckpt", hyper_parameters={**settings_of(), "widths": laughs})
    with pytest.raises(RunError, match="more settings, or more deeply nested ones"):
        vaezoo.load(path)


def test_weights_that_are_larger_than_their_file_are_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**9, 10**6)
    path = checkpoint(tmp_path / "a.ckpt", state_dict={"encoder.1.weight": huge})
    with pytest.raises(RunError, match="weights declare more bytes than the file has"):
        vaezoo.load(path)


@pytest.mark.parametrize("wrong", [{"state_dict": {"a": 3}}, {"state_dict": 3}, {"hyper_parameters": "x"}])
def test_parts_of_another_kind_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a checkpoint of this version|contains values that are not tensors"):
        vaezoo.load(checkpoint(tmp_path / "a.ckpt", **wrong))
    with pytest.raises(RunError, match=r"model_class is \[.os.system.\]"):
        vaezoo.load(checkpoint(tmp_path / "a.ckpt", model_class=["os.system"]))


def test_a_compressed_checkpoint_is_refused_before_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, bomb = checkpoint(tmp_path / "a.ckpt"), tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path) as sound, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sound.namelist():
            packed.writestr(name, sound.read(name))
        packed.writestr("archive/data/99", b"\0" * 10**7)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(RunError, match="it is compressed"):
        vaezoo.load(bomb)
    path.write_bytes(torch.zeros(3).numpy().tobytes())
    with pytest.raises(RunError, match="is damaged or not a checkpoint"):
        vaezoo.load(path)


def test_a_pipe_or_a_link_to_a_device_is_no_checkpoint(stranger: Callable[..., Path]) -> None:
    path = stranger({})
    (path / "checkpoints").mkdir()
    os.mkfifo(path / "checkpoints" / "best.ckpt")
    (path / "checkpoints" / "last.ckpt").symlink_to("/dev/zero")
    with pytest.raises(RunError, match="has no best or last checkpoint"):
        vaezoo.load(path)


@pytest.mark.parametrize("variant", some_models(0))
def test_a_model_is_made_twice_with_the_same_outcome(variant: str, make_model: Callable[..., Autoencoder]) -> None:
    made = make_model(variant)
    for network in made.networks if len(made.code_shape) == 1 else GRIDS:
        model = make_model(variant, f"model.network={network}")
        again = construction._build(type(model), dict(model.hparams), model.state_dict())
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, again.state_dict()[name]), name


def test_names_of_packages_are_checked() -> None:
    assert trust.allowed_packages(None) == ("vaezoo",)
    assert trust.allowed_packages(["a.b"]) == ("vaezoo", "a.b")
    assert trust.belongs("a.b.c", ["a.b"])
    assert not trust.belongs("a.bc", ["a.b"])
    with pytest.raises(ConfigError, match="packages must be"):
        trust.allowed_packages("ab")
    assert trust.packages_of({"a": [{"_target_": "mine.x"}], "_target_": "vaezoo.y"}) == ["mine"]


def test_json_of_a_record_is_plain(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    for text in (
        "[" * 10**5,
        "[1]",
        "{",
        json.dumps({"status": 3}),
        "\udc80".encode("utf8", "surrogatepass").decode("latin1"),
    ):
        (tmp_path / "summary.json").write_text(text, encoding="latin1")
        with pytest.raises(RunError, match="cannot be read"):
            _ = Run(tmp_path).summary
