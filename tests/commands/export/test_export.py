"""A run's weights and programs as files: each gives what the model gives, or none of them stays."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vaezoo
from tests.conftest import MODELS, ROOT, some
from vaezoo import Run
from vaezoo.commands.check.clauses import given, labels_for
from vaezoo.commands.export import package
from vaezoo.commands.export.command import read
from vaezoo.config import hydra_config
from vaezoo.config.choices import LIKELIHOODS, NETWORKS
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.extras import need
from vaezoo.models import Autoencoder, model_card, program_checks, programs

pytest.importorskip("safetensors", reason='needs pip install -e ".[export]"')
pytest.importorskip("onnxruntime", reason='needs pip install -e ".[export]"')

Program = Callable[..., tuple[int, str]]
Make = Callable[..., Autoencoder]


def networks_of(variant: str) -> tuple[str, ...]:
    """Networks of a variant, the fastest first: all, unless its yaml or one that it extends has another than mlp."""
    text = (hydra_config.CONFIGS / "model" / f"{variant}.yaml").read_text()
    if own := re.search(r"^network: (\w+)", text, re.M):
        return tuple(name for name in NETWORKS if name != "mlp") if own[1] in NETWORKS else (own[1],)
    extended = re.search(r"^defaults: \[(\w+),", text, re.M)
    return networks_of(extended[1]) if extended else NETWORKS


ALL = [(name, network, likelihood) for name in MODELS for network in networks_of(name) for likelihood in LIKELIHOODS]
SOME = [
    *[(name, networks_of(name)[0], "bernoulli") for name in MODELS],
    *[("vae", network, "gaussian") for network in NETWORKS],
    *[("ae", "mlp", likelihood) for likelihood in LIKELIHOODS[1:]],
]


def trained(make_model: Make, variant: str, network: str, likelihood: str, *more: str) -> Autoencoder:
    """A model whose weights are none of those that it was made with."""
    settings = (f"model.network={network}", f"model.likelihood={likelihood}", *more)
    model = make_model(variant, *settings, image_shape=[3, 12, 10])
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.02 * torch.randn_like(tensor))
    return model.eval()


def assert_program_is_the_model(model: Autoencoder, kind: str, folder: Path) -> None:
    images = torch.rand(5, *model.image_shape)
    labels, seen = labels_for(model, 5), given(model, 5)
    with torch.no_grad():
        posterior, code = seen.posterior(images), seen.encode(images)
        wanted: dict[str, tuple[Tensor, ...]] = {
            "encoder": (code,) if posterior is None else posterior.moments() or (posterior.mean,),
            "decoder": (seen.decode(code),),
        }
    known = (labels,) if model.is_conditional else ()
    inputs = {"encoder": (images, *known), "decoder": (code, *known)}
    for part, (program, example) in programs.programs(model).items():
        path = folder / f"m.{part}.{programs.KINDS[kind]}"
        programs.write_program(program, example, kind, path)
        run = programs.read_back(kind, path)
        for count in (1, 2, 5):
            got = run(*(each[:count] for each in inputs[part]))
            assert [each.shape for each in got] == [each[:count].shape for each in wanted[part]]
            for one, other in zip(wanted[part], got, strict=True):
                torch.testing.assert_close(one[:count], other, atol=2e-5, rtol=1e-5)
        content = path.read_bytes()
        assert str(ROOT).encode() not in content
        assert str(Path(torch.__file__).parent).encode() not in content


@pytest.mark.parametrize(("name", "network", "likelihood"), some(SOME))
def test_a_torch_program_is_the_model_for_any_number_of_images(
    name: str, network: str, likelihood: str, make_model: Make, tmp_path: Path
) -> None:
    assert_program_is_the_model(trained(make_model, name, network, likelihood), "torch", tmp_path)


@pytest.mark.parametrize("kind", ["torch", pytest.param("onnx", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("quantizer", ["lfq", "bsq", "simvq", "gumbel"])
def test_a_program_has_every_quantiser(quantizer: str, kind: str, make_model: Make, tmp_path: Path) -> None:
    chosen = (f"model.quantizer={quantizer}", "model.quantizer_options=null", "model.widths=[8]")
    assert_program_is_the_model(trained(make_model, "vqvae", "conv", "bernoulli", *chosen), kind, tmp_path)


@pytest.mark.parametrize(
    ("name", "network", "likelihood"),
    [("vae", "conv", "continuous_bernoulli")],  # of all others at night
)
def test_an_onnx_program_is_the_model_for_any_number_of_images(
    name: str, network: str, likelihood: str, make_model: Make, tmp_path: Path
) -> None:
    assert_program_is_the_model(trained(make_model, name, network, likelihood), "onnx", tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "network", "likelihood"), ALL)
def test_every_model_becomes_programs_and_weights(
    name: str, network: str, likelihood: str, make_model: Make, tmp_path: Path
) -> None:
    model = trained(make_model, name, network, likelihood)
    for kind in programs.KINDS:
        assert_program_is_the_model(model, kind, tmp_path)
    assert_weights_are_the_model(model, tmp_path)


@pytest.mark.parametrize(("name", "network", "likelihood"), some(SOME, 2))
def test_exported_weights_make_the_same_model(
    name: str, network: str, likelihood: str, make_model: Make, tmp_path: Path
) -> None:
    assert_weights_are_the_model(trained(make_model, name, network, likelihood), tmp_path)


def assert_weights_are_the_model(model: Autoencoder, folder: Path) -> None:
    path = exported(model, folder)
    again = vaezoo.load(path)
    assert type(again) is type(model)
    assert again.hparams == model.hparams
    assert not again.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])


def exported(model: Autoencoder, folder: Path, **changes: Any) -> Path:
    path = folder / "m.safetensors"
    model_card.write_weights(path, model.state_dict())
    cls = f"{type(model).__module__}.{type(model).__qualname__}"
    said = {"class": cls, "hyper_parameters": dict(model.hparams)} | changes
    files = {path.name: {"sha256": model_card.sha256(path)}}
    model_card.write_card(model_card.card_of(path), {"schema": model_card.SCHEMA, "model": said, "files": files})
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"class": "os.system"}, r"asks for the class os.system; to allow it, pass packages=\['os'\]"),
        ({"class": "vaezoo.models.loading.load"}, "it is not a model"),
        ({"class": 3}, "has no class"),
        ({"hyper_parameters": []}, "has no class or no hyper_parameters"),
        ({"hyper_parameters": {"image_shape": [3, 12, 10], "latent_dim": 10**9}}, "by its settings"),
        ({"hyper_parameters": {"image_shape": [3, 12, 10], "widths": [1] * 20_000}}, "more settings"),
    ],
)
def test_a_card_from_a_stranger_makes_nothing_else(
    changes: dict[str, Any], said: str, make_model: Make, tmp_path: Path
) -> None:
    path = exported(trained(make_model, "vae", "mlp", "bernoulli"), tmp_path, **changes)
    with pytest.raises(RunError, match=said):
        vaezoo.load(path)


def test_weights_and_card_must_be_of_one_export(make_model: Make, tmp_path: Path) -> None:
    path = exported(trained(make_model, "vae", "mlp", "bernoulli"), tmp_path)
    card, content = model_card.card_of(path).read_text(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RunError, match=r"m\.json is the card of other weights, not of"):
        vaezoo.load(path)
    path.write_bytes(content[: len(content) // 2])
    model_card.card_of(path).write_text(
        card.replace(json.loads(card)["files"][path.name]["sha256"], model_card.sha256(path))
    )
    with pytest.raises(RunError, match="is damaged"):
        vaezoo.load(path)
    model_card.card_of(path).write_text("{}")
    with pytest.raises(RunError, match="not a card of this version"):
        vaezoo.load(path)
    model_card.card_of(path).unlink()
    with pytest.raises(
        RunError, match=r"m\.safetensors has no card: no JSON file in its folder names its SHA-256; put"
    ):
        vaezoo.load(path)


def test_weights_and_card_may_be_renamed(make_model: Make, tmp_path: Path) -> None:
    model = trained(make_model, "beta_vae", "mlp", "bernoulli")
    stored = exported(model, tmp_path)
    (tmp_path / "a.json").write_text("{}")  # other files do not stand in the way
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    card = model_card.card_of(stored)
    for new_weights, new_card in (("w", "m"), ("w", "c"), ("m", "c"), ("c", "w")):
        stored, card = (
            stored.rename(tmp_path / f"{new_weights}.safetensors"),
            card.rename(tmp_path / f"{new_card}.json"),
        )
        for path in (stored, card):
            again = vaezoo.load(path)
            assert type(again) is type(model)
            assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_two_exports_in_one_folder_are_told_apart_when_their_names_are_swapped(
    make_model: Make, tmp_path: Path
) -> None:
    for name, variant in (("one", "vae"), ("two", "ae")):
        stored = exported(trained(make_model, variant, "mlp", "bernoulli"), tmp_path)
        model_card.card_of(stored).rename(tmp_path / f"{name}.json")
        stored.rename(tmp_path / f"{name}.safetensors")
    (tmp_path / "one.json").rename(tmp_path / "aside")
    (tmp_path / "two.json").rename(tmp_path / "one.json")
    (tmp_path / "aside").rename(tmp_path / "two.json")
    assert type(vaezoo.load(tmp_path / "one.safetensors")) is vaezoo.VAE
    assert type(vaezoo.load(tmp_path / "one.json")) is vaezoo.AE


def test_a_card_without_its_weights_is_one_sentence(make_model: Make, tmp_path: Path) -> None:
    stored = exported(trained(make_model, "vae", "mlp", "bernoulli"), tmp_path)
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    for _ in range(2):
        with pytest.raises(
            RunError, match=r"m\.json has no weights: no file \*\.safetensors in its folder has the SHA"
        ):
            vaezoo.load(model_card.card_of(stored))
        stored.unlink(missing_ok=True)
    with pytest.raises(RunError, match=r"none\.json cannot be read"):
        vaezoo.load(tmp_path / "none.json")


def test_a_run_is_exported_checked_and_loaded_again(
    train: Callable[..., Run], program: Program, tmp_path: Path
) -> None:
    run = train("run", "model=beta_vae", "model.latent_dim=3")
    out = tmp_path / "deep" / "digits"
    command = ("export", str(run.path), f"out={out}.safetensors", "program=both", "licence=CC-BY-4.0")
    code, printed = program(*command)
    assert code == 0, printed
    parts = [f"digits.{part}.{end}" for part in ("decoder", "encoder") for end in ("onnx", "pt2")]
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([*parts, "digits.json", "digits.safetensors"])
    assert "checked on 64 test images of digits" in printed
    card = json.loads((out.parent / "digits.json").read_text())
    assert card["metrics"]["test"] == run.summary["test"]
    assert card["model"]["class"] == "vaezoo.models.beta_vae.BetaVAE"
    assert card["training"]["checkpoint"] == "best"
    assert card["images"]["shape"] == ["batch", 1, 16, 16]
    assert card["programs"]["encoder"]["outputs"] == ["mean", "logvar"]
    assert card["licence"] == "CC-BY-4.0"
    assert card["checked"]["max_difference"].keys() == {*parts, "digits.safetensors"} == card["files"].keys()
    assert max(card["checked"]["max_difference"].values()) < program_checks.TOLERANCE
    assert card["checked"]["max_difference"]["digits.safetensors"] == 0
    for name, said in card["files"].items():
        assert model_card.sha256(out.parent / name) == said["sha256"]
    assert str(tmp_path) not in json.dumps(card)
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(vaezoo.load(f"{out}.safetensors").reconstruct(x), vaezoo.load(run.path).reconstruct(x))

    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    code, printed = program(*command)
    assert code == 1
    assert "already exists; choose another out=, or set overwrite=true" in printed
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before
    code, printed = program("export", str(run.path), f"out={out}", "checkpoint=last", "overwrite=true")
    assert code == 0, printed
    assert sorted(path.name for path in out.parent.iterdir()) == ["digits.json", "digits.safetensors"]
    assert json.loads((out.parent / "digits.json").read_text())["training"]["checkpoint"] == "last"


@pytest.fixture
def stored(make_model: Make, tmp_path: Path) -> Path:
    """A run folder with a model that was never trained, and images that are not there."""
    model = make_model("ae", "model.widths=[8]")
    path = tmp_path / "run"
    (path / "checkpoints").mkdir(parents=True)
    data = ["_target_: vaezoo.data.ImageDataModule", "source: image_folder", "image_size: 16", "channels: 1"]
    lines = [*data, "val_size: 0.1", "test_size: 0.1", f"root: {tmp_path / 'nowhere'}"]
    (path / "config.yaml").write_text("data:\n" + "".join(f"  {line}\n" for line in lines))
    content = {"model_class": "vaezoo.models.ae.AE", "hyper_parameters": dict(model.hparams)}
    torch.save(content | {"state_dict": model.state_dict()}, path / "checkpoints" / "best.ckpt")
    return path


def test_without_images_random_ones_are_used_and_that_is_said(stored: Path, program: Program, tmp_path: Path) -> None:
    code, printed = program("export", str(stored), f"out={tmp_path / 'm'}")
    assert code == 0, printed
    assert "checked on random images, as there is no folder" in printed


@pytest.mark.parametrize("spoiled", ["program", "weights"])
def test_what_gives_other_outputs_is_an_error_and_nothing_stays(
    spoiled: str, stored: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spoiled == "program":
        read_back = programs.read_back
        monkeypatch.setattr(programs, "read_back", lambda *a: lambda *x: tuple(y + 0.01 for y in read_back(*a)(*x)))
    else:
        load = package.load_exported
        monkeypatch.setattr(package, "load_exported", lambda *a, **k: load(*a, **k).apply(_shaken))
    code, printed = program("export", str(stored), f"out={tmp_path / 'out' / 'm'}", "program=torch")
    assert code == 1
    assert "does not reproduce the model's outputs" in printed
    assert list((tmp_path / "out").iterdir()) == []


def _shaken(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data.add_(0.05)


def test_a_difference_is_relative_to_large_outputs_and_never_small_for_what_is_not_finite() -> None:
    one = torch.tensor([100.0, 1.0])
    assert program_checks.difference([one], [one + 0.01]) == pytest.approx(1e-4, rel=1e-2)
    assert program_checks.difference([one / 100], [one / 100 + 0.01]) == pytest.approx(0.01, rel=1e-2)
    assert program_checks.difference([one], [one * torch.nan]) == float("inf")
    assert program_checks.difference([one], [one[:1]]) == float("inf")
    assert program_checks.difference([one], []) == float("inf")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "needs one run folder and out=FILE"),
        (["out=a"], "needs one run folder"),
        (["run", "other", "out=a"], "needs one run folder"),
        (["run", "out=a", "program=jit"], "export.program must be 'none' or 'torch' or 'onnx' or 'both', got 'jit'"),
        (["run", "out=a", "checkpoint=first"], "export.checkpoint must be 'best' or 'last', got 'first'"),
        (["run", "out=a", "overwrite=maybe"], "export.overwrite must be bool, got 'maybe'"),
        (["run", "out=a", "pogram=onnx"], "export.pogram is not a setting here; did you mean 'program'?"),
        (["run", "out=a", "packages=mine"], "packages must be a list of names"),
        (["/does/not/exist", "out=a"], "/does/not/exist is not a run folder"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str, program: Program) -> None:
    code, printed = program("export", *words)
    assert code == 1
    assert said in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_the_suffix_of_out_may_be_written_or_not() -> None:
    assert read(["run", "out=a/b.safetensors"]).out == read(["run", "out=a/b"]).out == Path("a/b")
    assert read(["run", "out=v1.2"]).out == Path("v1.2")


def test_a_missing_package_is_named_with_its_extra(
    stored: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ConfigError, match=r'needs the package onnxruntime; to install it: pip install -e "\.\[export\]"'
    ):
        need("onnxruntime", "export")
    code, printed = program("export", str(stored), f"out={tmp_path / 'out' / 'm'}", "program=onnx")
    assert code == 1
    assert 'pip install -e ".[export]"' in printed
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.safetensors cannot be read"):
        vaezoo.load(tmp_path / "none.safetensors")
