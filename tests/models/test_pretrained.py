"""Autoencoders of diffusers, read from folders: they compute what diffusers does, and are runs like every other."""

import copy
import json
import math
import shlex
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

import vaezoo
from vaezoo import Run
from vaezoo.comparison.report import build  # noqa: F401  so that its module can be patched
from vaezoo.config import extras
from vaezoo.config.errors import ConfigError, RunError
from vaezoo.models import adoption
from vaezoo.models.pretrained import Pretrained
from vaezoo.nn.likelihoods import FittedGaussian

Program = Callable[..., tuple[int, str]]
Folders = dict[str, Path]

WEIGHTS = "diffusion_pytorch_model.safetensors"
FEW = ("data=digits", "data.limit=200", "data.val_size=60", "data.test_size=60", "threads=1", "device=cpu")
SIZES = (
    *("quick=true", "images=60", "train_images=60", "samples=40", "k=2", "bound_images=5"),
    *("pairs=5", "paths=2", "steps=3", "device=cpu"),
)
STAGES = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 16],
    "norm_num_groups": 4,
}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "kl": ("AutoencoderKL", {**STAGES, "latent_channels": 4}),
    "vq": ("VQModel", {**STAGES, "latent_channels": 3, "num_vq_embeddings": 16, "vq_embed_dim": 2}),
    "movq": (
        "VQModel",
        {
            **STAGES,
            **{"block_out_channels": [32, 32], "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]},
            **{"latent_channels": 4, "num_vq_embeddings": 16, "norm_type": "spatial", "lookup_from_codebook": True},
        },
    ),
    "tiny": (
        "AutoencoderTiny",
        {
            **{"encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8]},
            **{"num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]},
        },
    ),
    "dc": (
        "AutoencoderDC",
        {
            **{"encoder_block_out_channels": [8, 16], "decoder_block_out_channels": [8, 16], "latent_channels": 4},
            **{"encoder_layers_per_block": [1, 1], "decoder_layers_per_block": [1, 1], "attention_head_dim": 8},
            **{"encoder_qkv_multiscales": [[], []], "decoder_qkv_multiscales": [[], []]},
        },
    ),
}
"""Autoencoders of diffusers that halve images once, by a name: their class and settings."""


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("diffusers", reason=f"needs diffusers: {extras.how_to_install('pretrained')}")


@pytest.fixture(scope="module")
def networks(library: Any) -> dict[str, Any]:
    """Autoencoders with random weights, as diffusers makes them."""
    torch.manual_seed(0)
    found = {
        name: getattr(library, cls)(**options).eval().requires_grad_(False) for name, (cls, options) in TINY.items()
    }
    for name in ("vq", "movq"):
        torch.nn.init.normal_(found[name].quantize.embedding.weight)  # far apart, so that all are used
    return {name: network.requires_grad_(False) for name, network in found.items()}


@pytest.fixture(scope="module")
def folders(networks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The folders that diffusers saves them in."""
    places = {name: tmp_path_factory.mktemp("diffusers") / name for name in networks}
    for name, network in networks.items():
        network.save_pretrained(places[name])
    return places


@pytest.fixture
def adopted(folders: Folders) -> Callable[..., Pretrained]:
    """The model in a folder, for images of a shape."""

    def make(name: str, *image_shape: int) -> Pretrained:
        return adoption.adopt(adoption.find(folders[name]), image_shape or (3, 16, 16))

    return make


def of_diffusers(network: Any, x: Tensor) -> Tensor:
    """What diffusers' own pipelines make of images with pixels in [0, 1]."""
    from diffusers.image_processor import VaeImageProcessor

    encoded = network.encode(VaeImageProcessor.normalize(x))
    if "latent_dist" in encoded:
        code = encoded.latent_dist.mode()
    else:
        code = encoded.latent if "latent" in encoded else encoded.latents
    decoded: Tensor = VaeImageProcessor.denormalize(network.decode(code).sample)
    return decoded


# what they compute ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_reconstructions_are_those_of_diffusers(
    name: str, networks: dict[str, Any], adopted: Callable[..., Pretrained]
) -> None:
    x = torch.rand(4, 3, 16, 12)
    model = adopted(name, 3, 16, 12)
    torch.testing.assert_close(model.reconstruct(x), of_diffusers(networks[name], x), rtol=0, atol=1e-5)
    assert model.code_shape[1:] == (8, 6)
    assert model.encode(x).shape == (4, math.prod(model.code_shape))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("size", [(9, 9), (16, 11)])
def test_images_of_other_sizes_are_padded_by_their_borders_and_cropped(
    name: str, size: tuple[int, int], networks: dict[str, Any], adopted: Callable[..., Pretrained]
) -> None:
    x = torch.rand(2, 3, *size)
    height, width = size
    padded = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    wanted = of_diffusers(networks[name], padded)[..., :height, :width]
    torch.testing.assert_close(adopted(name, 3, *size).reconstruct(x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_grey_images_are_repeated_and_their_decoded_channels_averaged(
    name: str, networks: dict[str, Any], adopted: Callable[..., Pretrained]
) -> None:
    x = torch.rand(2, 1, 8, 8)
    wanted = of_diffusers(networks[name], x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(adopted(name, 1, 8, 8).reconstruct(x), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["kl", "vq"])
def test_few_images_at_once_give_the_same(name: str, adopted: Callable[..., Pretrained]) -> None:
    x, model = torch.rand(5, 3, 16, 16), adopted(name)
    whole = model.encode(x), model.reconstruct(x)
    model.encoder.at_once, model.decoder.at_once = 2, 1
    torch.testing.assert_close((model.encode(x), model.reconstruct(x)), whole)


def test_posteriors_and_their_kl_are_those_of_diffusers_and_of_torch(
    networks: dict[str, Any], adopted: Callable[..., Pretrained]
) -> None:
    x, model = torch.rand(4, 3, 16, 16), adopted("kl")
    theirs = networks["kl"].encode(2 * x - 1).latent_dist
    ours, prior = model.posterior(x), model.prior()
    assert ours is not None
    assert prior is not None
    torch.testing.assert_close(ours.moments(), (theirs.mean.flatten(1), theirs.logvar.flatten(1)))
    exact = kl_divergence(Normal(theirs.mean, theirs.std), Normal(0.0, 1.0)).flatten(1)
    torch.testing.assert_close(ours.kl(prior, ours.draw()), exact)
    torch.testing.assert_close(model.loss_terms(x).rate, theirs.kl())
    assert model.sample(2).shape == (2, 3, 16, 16)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["vq", "movq"])
def test_indices_are_those_of_diffusers(
    name: str, networks: dict[str, Any], adopted: Callable[..., Pretrained]
) -> None:
    x, model, network = torch.rand(4, 3, 16, 16), adopted(name), networks[name]
    codes, _, (_, _, indices) = network.quantize(network.encode(2 * x - 1).latents)
    found = model.indices(x)
    assert found is not None
    assert found.unique().numel() > 2
    assert torch.equal(found.flatten(), indices)
    torch.testing.assert_close(model.codes_at(found), codes.flatten(1))
    torch.testing.assert_close(model.encode(x), codes.flatten(1))
    torch.testing.assert_close(model.project(model.path_code(x)), model.encode(x))
    torch.testing.assert_close(model.rate(x), torch.full((4,), 64 * math.log(16)))
    assert model.code_bits == 64 * 4
    torch.testing.assert_close(model.loss_terms(x).usage[""].sum(0), indices.bincount(minlength=16).float())


def test_indices_are_the_same_when_distances_do_not_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, adopted: Callable[..., Pretrained]
) -> None:
    x, model = torch.rand(3, 3, 16, 16), adopted("vq")
    whole = model.indices(x)
    monkeypatch.setattr("vaezoo.nn.pretrained_networks.DISTANCES", 2 * 64 * 16)
    assert torch.equal(model.indices(x), whole)  # type: ignore[arg-type]


def test_decoded_codes_are_not_snapped_to_the_codebook(adopted: Callable[..., Pretrained]) -> None:
    model = adopted("vq")
    code = torch.randn(2, model.latent_dim)
    assert not torch.allclose(model.decode(code), model.decode(model.project(code)))


@pytest.mark.parametrize("name", ["tiny", "dc"])
def test_a_deterministic_one_has_neither_posterior_nor_samples(name: str, adopted: Callable[..., Pretrained]) -> None:
    model, x = adopted(name), torch.rand(2, 3, 16, 16)
    assert model.posterior(x) is None
    assert model.sample(2) is None
    assert not model.loss_terms(x).has_rate


def test_codes_are_not_scaled(networks: dict[str, Any], adopted: Callable[..., Pretrained], folders: Folders) -> None:
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(adopted("dc").encode(x), networks["dc"].encode(2 * x - 1).latent.flatten(1))
    assert adoption.find(folders["kl"]).describe()["scaling_factor"] == 0.18215


# likelihood ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_sigma_is_the_one_with_the_least_recon(name: str, adopted: Callable[..., Pretrained]) -> None:
    model, x = adopted(name), torch.rand(20, 3, 16, 16)
    sigma = adoption.fit_sigma(model, x, seed=3, at_once=20)
    posterior = model.posterior(x)
    code = model.encode(x)
    if posterior is not None:
        code = posterior.draw(1, torch.Generator().manual_seed(3)).first
    mse = float((x - model.decode(code)).square().mean())
    assert sigma == pytest.approx(math.sqrt(mse), rel=1e-5)
    least = x[0].numel() / 2 * (1 + math.log(2 * math.pi * mse))
    assert float(model.nll(x, code).mean()) == pytest.approx(least, rel=1e-5)
    for other in (0.99 * sigma, 1.01 * sigma):
        nll = FittedGaussian(sigma=other).nll(x, model.outputs(code)).mean()
        assert float(nll) > least
    assert model.hparams["likelihood_options"] == {"sigma": sigma}
    assert "fitted to validation images" in model.likelihood.describe()


def test_sigma_is_the_same_whatever_is_processed_at_once(adopted: Callable[..., Pretrained]) -> None:
    model, x = adopted("kl"), torch.rand(7, 3, 16, 16)
    assert adoption.fit_sigma(model, x, at_once=7) == pytest.approx(adoption.fit_sigma(model, x, at_once=3), rel=0.01)
    model = adopted("dc")
    assert adoption.fit_sigma(model, x, at_once=7) == pytest.approx(adoption.fit_sigma(model, x, at_once=3), rel=1e-6)


def test_a_perfect_reconstruction_has_a_sigma_above_zero(adopted: Callable[..., Pretrained]) -> None:
    model = adopted("dc")
    x = model.reconstruct(torch.rand(2, 3, 16, 16))
    model.reconstruct = model.decode = lambda *_: x  # type: ignore[method-assign]
    assert adoption.fit_sigma(model, x) == adoption.LEAST_SIGMA


# files ---------------------------------------------------------------------------------------------------------------


def test_weights_under_the_names_of_older_versions_are_read(
    folders: Folders, adopted: Callable[..., Pretrained], tmp_path: Path
) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    shutil.copytree(folders["kl"], tmp_path / "kl")
    weights = load_file(tmp_path / "kl" / WEIGHTS)
    for new, name in old.items():
        weights = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): w for key, w in weights.items()}
    assert any("attentions.0.query" in key for key in weights)
    save_file(weights, tmp_path / "kl" / WEIGHTS)
    x = torch.rand(2, 3, 16, 16)
    model = adoption.adopt(adoption.find(tmp_path / "kl"), (3, 16, 16))
    assert torch.equal(model.reconstruct(x), adopted("kl").reconstruct(x))


def test_weights_in_half_precision_are_computed_with_in_single(networks: dict[str, Any], tmp_path: Path) -> None:
    copy.deepcopy(networks["kl"]).half().save_pretrained(tmp_path / "half")
    model = adoption.adopt(adoption.find(tmp_path / "half"), (3, 16, 16))
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def damaged(folder: Path, name: str) -> str:
    """Change a copy of the folder ``kl``; returns the sentence that it is refused with."""
    config, weights = folder / "config.json", folder / WEIGHTS
    settings = json.loads(config.read_text())
    tensors = load_file(weights)
    if name == "no config":
        config.unlink()
        return r"has no config\.json, so it is not a model of diffusers; give the folder that save_pretrained"
    if name == "within a model":
        (folder / "vae").mkdir()
        config.rename(folder / "vae" / "config.json")
        return rf"has no config\.json, .*; give folder={folder}/vae"
    if name == "broken config":
        config.write_text("{")
        return r"config\.json cannot be read"
    if name == "unknown class":
        config.write_text(json.dumps({**settings, "_class_name": "UNet2DModel"}))
        return r"is of the class 'UNet2DModel', and only .*AutoencoderKL.* can be adopted; give the folder of"
    if name == "class of another kind":
        config.write_text(json.dumps({**settings, "_class_name": ["AutoencoderKL"]}))
        return r"is of the class \['AutoencoderKL'\], and only"
    if name == "pickled":
        weights.rename(folder / "diffusion_pytorch_model.bin")
        return r"has only pickled weights \(diffusion_pytorch_model\.bin\), which can run any code"
    if name == "no weights":
        weights.unlink()
        return rf"has no {WEIGHTS}; save the whole model"
    if name == "half precision alone":
        weights.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
        return rf"has no {WEIGHTS}; rename diffusion_pytorch_model\.fp16\.safetensors"
    if name == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
        return r"is damaged or not a safetensors file: .*; get it again"
    if name == "not safetensors":
        weights.write_bytes(b"\x80\x04pickle")
        return r"is damaged or not a safetensors file"
    if name == "gigantic":
        config.write_text(json.dumps({**settings, "block_out_channels": [2**18, 2**18]}))
        return r"has \d+,\d+ numbers, and config\.json asks for \d+,\d+,\d+,\d+"
    if name == "endless":
        config.write_text(json.dumps({**settings, "layers_per_block": 10**9}))
        return r"the settings of AutoencoderKL ask for more than 64 blocks \(layers_per_block\)"
    if name == "quantised":
        config.write_text(json.dumps({**settings, "quantization_config": {"quant_method": "torchao"}}))
        return r"is of quantised weights, which cannot be adopted"
    if name == "several files":
        (folder / f"{WEIGHTS}.index.json").write_text("{}")
        return r"has weights in several files; save the whole model in a single"
    if name == "wrong settings":
        config.write_text(json.dumps({**settings, "block_out_channels": "many"}))
        return r"the settings of AutoencoderKL do not fit the installed diffusers"
    if name == "other weights":
        save_file({f"other.{key}": tensor for key, tensor in tensors.items()}, weights)
        return r"does not fit config\.json: missing or unexpected"
    if name == "other shapes":
        save_file({**tensors, "quant_conv.bias": torch.zeros(99)}, weights)
        return r"cannot be read as a AutoencoderKL|does not fit config\.json"
    save_file({**tensors, "quant_conv.bias": torch.full((8,), math.nan)}, weights)
    return r"has weights that are not finite \(encoder\.quant_conv\.bias\)"


@pytest.mark.parametrize(
    "name",
    [
        *("no config", "within a model", "broken config", "unknown class", "class of another kind", "pickled"),
        *(
            "no weights",
            "half precision alone",
            "truncated",
            "not safetensors",
            "gigantic",
            "endless",
            "quantised",
            "several files",
            "wrong settings",
        ),
        *("other weights", "other shapes", "not finite"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused_in_one_sentence(name: str, folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders["kl"], tmp_path / "kl")
    sentence = damaged(tmp_path / "kl", name)
    with pytest.raises(ConfigError, match=sentence):
        adoption.adopt(adoption.find(tmp_path / "kl"), (3, 16, 16))


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_refused(channels: int, adopted: Callable[..., Pretrained]) -> None:
    with pytest.raises(
        ConfigError, match=rf"for images of 1 or 3 channels, and these have {channels}; set data\.channels"
    ):
        adopted("kl", channels, 16, 16)


def test_it_is_not_trained(adopted: Callable[..., Pretrained]) -> None:
    trainer = L.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
    )
    with pytest.raises(ConfigError, match="kl was trained elsewhere and is not trained here; evaluate it"):
        trainer.fit(adopted("kl"), torch.utils.data.DataLoader([(torch.rand(3, 16, 16), 0)]))  # type: ignore[arg-type]


# runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def adopt(program: Program, folders: Folders, tmp_path: Path) -> Callable[..., Run]:
    """``vaezoo adopt`` of a folder, which must succeed: its run."""

    def run(name: str, *words: str) -> Run:
        given = (f"folder={folders[name]}", f"out={tmp_path / name}", "evaluation=none", *FEW, *words)
        code, printed = program("adopt", *given)
        assert code == 0, printed
        return Run(tmp_path / name)

    return run


def test_an_adopted_model_is_evaluated_and_compared_like_every_run(
    adopt: Callable[..., Run],
    train: Callable[..., Run],
    program: Program,
    folders: Folders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kl = adopt("kl", f"folder={shutil.copytree(folders['kl'], tmp_path / 'source')}", "name=mine")
    shutil.rmtree(tmp_path / "source")  # the run has a copy of the weights
    summary, images = kl.summary, torch.rand(2, 1, 16, 16)
    assert (summary["status"], summary["steps"], summary["objective"]) == ("adopted", 0, "trained elsewhere")
    assert summary["adopted"]["class"] == "AutoencoderKL"
    assert summary["adopted"]["sha256"] == adoption.find(folders["kl"]).sha256
    model = kl.model()
    wanted = adoption.adopt(adoption.find(folders["kl"]), (1, 16, 16)).reconstruct(images)
    assert torch.equal(model.reconstruct(images), wanted)
    data = kl.data()
    data.prepare_data()
    data.setup()
    val, _ = data.examples(60, "val")
    assert len(val) == 60
    sigma = adoption.fit_sigma(adoption.adopt(adoption.find(folders["kl"]), (1, 16, 16)), val)
    assert model.hparams["likelihood_options"] == {"sigma": pytest.approx(sigma, rel=1e-6)}

    beside = train("vae", *FEW[:4], "threads=1", "evaluation=none")
    code, printed = program("evaluate", str(kl.path), *SIZES)
    assert code == 0, printed
    assert f"{kl.path} was trained elsewhere; its likelihood was fitted afterwards" in printed
    evaluation = kl.evaluation
    assert evaluation is not None
    assert evaluation["trained_elsewhere"] == summary["adopted"]
    numbers = {name: entry["value"] for name, entry in evaluation["metrics"].items()}
    assert numbers["elbo"] == pytest.approx(-numbers["recon"] - numbers["kl"])
    assert kl.model().mixture is not None

    drawn = ("Reconstructions", "Rate and distortion")
    monkeypatch.setattr(sys.modules["vaezoo.comparison.report.build"], "ORDER", drawn)
    code, printed = program("compare", str(kl.path), str(beside.path), f"out={tmp_path / 'report'}", "pdf=false")
    assert (code, "left out" in printed) == (0, False), printed
    report = (tmp_path / "report" / "report.md").read_text()
    assert "> PretrainedVAE mine was trained elsewhere, on other images, and its likelihood was fitted" in report
    assert "not ranked, because the runs differ in training (see Fairness)" in report
    assert f"fitted gaussian (sigma {sigma:g})" in report
    assert "PretrainedVAE mine: elsewhere, on other images; VAE: here" in report
    assert "**equal**, optimiser steps: " in report
    assert "Some models were trained elsewhere" not in report.partition("### Fairness")[0]
    assert "trained elsewhere" in (tmp_path / "report" / "report.html").read_text()


def test_the_command_of_the_guide_works(program: Program, folders: Folders, tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "zoo" / "perceptual.md").read_text()
    (line,) = [line for line in guide.splitlines() if line.startswith("vaezoo adopt")]
    places = {"sd-vae-ft-mse": str(folders["kl"]), "cifar10": "digits", "RUN_DIR": str(tmp_path / "run")}
    for name, place in places.items():
        line = line.replace(name, place)
    code, printed = program(*shlex.split(line)[1:], "evaluation=none", *FEW[1:])
    assert code == 0, printed
    assert Run(tmp_path / "run").summary["adopted"]["folder"] == str(folders["kl"])


def test_discrete_codes_of_an_adopted_model_get_a_prior(adopt: Callable[..., Run], program: Program) -> None:
    vq = adopt("vq")
    code, printed = program("prior", str(vq.path), "epochs=1", "width=8", "layers=1", "device=cpu")
    assert code == 0, printed
    assert vq.model().sample(2).shape == (2, 1, 16, 16)  # type: ignore[union-attr]


def test_an_adopted_run_is_exported_and_loaded(adopt: Callable[..., Run], program: Program, tmp_path: Path) -> None:
    run, x = adopt("dc"), torch.rand(2, 1, 16, 16)
    code, printed = program("export", str(run.path), f"out={tmp_path / 'file'}")
    assert code == 0, printed
    assert torch.equal(vaezoo.load(tmp_path / "file.safetensors").reconstruct(x), run.model().reconstruct(x))


def test_other_weights_in_the_run_are_noticed(adopt: Callable[..., Run]) -> None:
    run = adopt("tiny")
    path = run.checkpoint()
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).flatten()[0] += 1e-4
    torch.save(content, path)
    with pytest.raises(RunError, match=r"its weights are not those of tiny that were adopted, because their SHA-256"):
        run.model()


def test_nothing_is_downloaded(adopt: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    adopt("kl").model()


def test_without_the_extra_there_is_one_sentence(
    adopt: Callable[..., Run], program: Program, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = adopt("kl")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    wanted = 'this needs the package diffusers; to install it: pip install -e ".[pretrained]" in the clone of vaezoo'
    code, printed = program("adopt", f"folder={folders['kl']}", f"out={tmp_path / 'new'}", *FEW)
    assert (code, printed) == (1, f"error: {wanted}\n")
    assert not (tmp_path / "new").exists()
    code, printed = program("evaluate", str(run.path), *SIZES)
    assert code == 1
    assert wanted in printed.splitlines()[-1]


def test_an_adopted_run_is_neither_resumed_nor_overwritten(
    adopt: Callable[..., Run], program: Program, folders: Folders
) -> None:
    run = adopt("kl")
    code, printed = program("train", f"resume={run.path}")
    assert code == 1
    assert printed.startswith(f"error: {run.path} was trained elsewhere, so there is nothing to resume")
    code, printed = program("adopt", f"folder={folders['kl']}", f"out={run.path}", *FEW)
    assert code == 1
    assert "already contains a run" in printed


def test_a_failure_leaves_no_run(
    adopt: Callable[..., Run], program: Program, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        code, printed = program("adopt", f"folder={folders['kl']}", f"out={tmp_path / 'kl'}", "evaluation=none", *FEW)
    assert code == 1
    assert "No space left on device" in printed
    assert adopt("kl").summary["status"] == "adopted"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out=OUT"], "vaezoo adopt needs folder=PATH"),
        (["folder=HERE"], "vaezoo adopt needs out=PATH"),
        (["folder=HERE", "out=OUT", "model=vae"], "adopt.model is not a setting here"),
        (["folder=HERE", "out=OUT", "evaluation=some"], "adopt.evaluation must be one of quick, full, none"),
        (["folder=HERE", "out=OUT", "data=nothing"], "there is no data=nothing"),
        (["folder=HERE", "out=OUT", "data.channels=2"], "data.channels"),
        (["HERE", "out=OUT"], "vaezoo adopt takes KEY=VALUE, got"),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(
    words: list[str], sentence: str, folders: Folders, program: Program, tmp_path: Path
) -> None:
    known = {"HERE": str(folders["kl"]), "OUT": str(tmp_path / "out")}
    for name, path in known.items():
        words = [word.replace(name, path) for word in words]
    code, printed = program("adopt", *words)
    assert (code, len(printed.splitlines())) == (1, 1)
    assert sentence in printed
    assert not (tmp_path / "out").exists()
