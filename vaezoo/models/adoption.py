"""Autoencoders in local folders of diffusers, read as models. Nothing is downloaded, and no pickle is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError, RunError
from vaezoo.config.reading import check_plain, read_json
from vaezoo.models.model_card import sha256
from vaezoo.models.pretrained import CLASSES, Pretrained
from vaezoo.nn.image_api import unchecked
from vaezoo.nn.likelihoods import FittedGaussian
from vaezoo.nn.pretrained_networks import diffusers_class, digest, make_network, quiet

WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
PARTS = ("vae", "vqvae", "movq")
"""Names of the folder of an autoencoder within that of a diffusion model."""

LEAST_SIGMA = 1e-3
"""Lower bound of a fitted sigma, a quarter of a grey level, as of learned ones."""


@dataclass(frozen=True)
class Source:
    """A folder that an autoencoder was read from: its class in diffusers, settings, and the SHA-256 of its weights."""

    folder: Path
    network: str
    options: dict[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """The name of the folder, with that of the diffusion model which it is a part of."""
        place = self.folder.resolve()
        return f"{place.parent.name}/{place.name}" if place.name in PARTS else place.name

    def describe(self) -> dict[str, Any]:
        """What a run records of it, with the factors that a diffusion model scales codes by."""
        scales = {name: self.options.get(name) for name in ("scaling_factor", "shift_factor")}
        return {"folder": str(self.folder.absolute()), "class": self.network, "sha256": self.sha256, **scales}


def find(folder: Path) -> Source:
    """The autoencoder in a folder, before its weights are read; ConfigError if there is none that is supported."""
    path = folder / "config.json"
    if not path.is_file():
        inside = next((name for name in PARTS if (folder / name / "config.json").is_file()), None)
        remedy = f"folder={folder / inside}" if inside else "the folder that save_pretrained of diffusers wrote"
        raise ConfigError(f"{folder} has no config.json, so it is not a model of diffusers; give {remedy}")
    try:
        config = read_json(path)
        check_plain(config, str(path))
    except RunError as error:
        raise ConfigError(str(error)) from error
    network = config.get("_class_name")
    if not isinstance(network, str) or network not in CLASSES:
        raise ConfigError(
            f"{path} is of the class {network!r}, and only {', '.join(CLASSES)} can be adopted; give the folder of one"
            " of these"
        )
    if "quantization_config" in config:
        raise ConfigError(f"{path} is of quantised weights, which cannot be adopted; give a folder with those it is of")
    options = {name: value for name, value in config.items() if not name.startswith("_")}
    return Source(folder, network, options, sha256(_weights(folder)))


def _weights(folder: Path) -> Path:
    """The file of weights in a folder; ConfigError if there is none that is safe to read."""
    if (folder / f"{WEIGHTS}.index.json").exists():
        raise ConfigError(f"{folder} has weights in several files; save the whole model in a single {WEIGHTS}")
    if (path := folder / WEIGHTS).is_file():
        return path
    found = sorted(child.name for child in folder.iterdir() if child.suffix in (*PICKLES, ".safetensors"))
    if found and all(name.endswith(PICKLES) for name in found):
        raise ConfigError(
            f"{folder} has only pickled weights ({found[0]}), which can run any code when they are read; give a folder"
            f" with {WEIGHTS}, which save_pretrained of diffusers writes"
        )
    other = f"; rename {found[0]}, or" if len(found) == 1 else ";"
    raise ConfigError(f"{folder} has no {WEIGHTS}{other} save the whole model in a single file of that name")


def adopt(source: Source, image_shape: Sequence[int], name: str | None = None) -> Pretrained:
    """The model of a folder for images of a shape (C, H, W), in evaluation mode, with a likelihood of sigma 1.

    ``name`` is that in comparisons, by default the folder's. ConfigError for weights that are damaged or of another
    model, images that it is not for, or without diffusers.
    """
    network = _read(source)
    model = CLASSES[source.network](
        image_shape=list(image_shape),
        network=source.network,
        network_options=source.options,
        name=name or source.name,
        sha256="",
        likelihood_options={"sigma": 1.0},
    )
    model.take(network)
    model.hparams["sha256"] = digest(model.state_dict())
    if broken := [key for key, tensor in model.state_dict().items() if not tensor.isfinite().all()]:
        raise ConfigError(
            f"{source.folder / WEIGHTS} has weights that are not finite ({broken[0]}); get the file again"
        )
    return model.eval()


def _read(source: Source) -> Any:
    """The autoencoder of diffusers with its weights in single precision; ConfigError if they are not whole."""
    path, cls = source.folder / WEIGHTS, diffusers_class(source.network)
    with torch.device("meta"):  # a few bytes of settings can ask for terabytes
        wanted = sum(tensor.numel() for tensor in make_network(source.network, source.options).state_dict().values())
    if (count := _count(path)) < wanted:
        raise ConfigError(
            f"{path} has {count:,} numbers, and config.json asks for {wanted:,}, so they are of different models; get"
            " both files again"
        )
    try:
        with quiet():
            network, about = cls.from_pretrained(
                str(source.folder),
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # diffusers raises many types for files that do not fit
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(f"{path} cannot be read as a {source.network}: {reason}") from error
    if lacking := [*about["missing_keys"], *about["unexpected_keys"], *about["mismatched_keys"]]:
        raise ConfigError(
            f"{path} does not fit config.json: missing or unexpected {', '.join(map(str, lacking[:3]))}; get both files"
            " again"
        )
    return network


def _count(path: Path) -> int:
    """The number of values in a safetensors file, by its header; ConfigError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path} is damaged or not a safetensors file: {reason}; get it again") from error


@torch.no_grad()
def fit_sigma(model: Pretrained, images: Tensor, *, seed: int = 0, at_once: int = 250) -> float:
    """Set sigma^2 to the mean squared error of images (N, C, H, W), which maximises their ELBO, and return sigma.

    Decoded are codes drawn from the posterior if there is one, with ``seed``. ConfigError if the model cannot process
    these images.
    """
    total = 0.0
    generator = torch.Generator(model.device).manual_seed(seed)
    try:
        with unchecked():
            for part in images.split(at_once):
                x = part.to(model.device)
                posterior = model.posterior(x)
                code = model.encode(x) if posterior is None else posterior.draw(1, generator).first
                decoded = model.decode(code)
                if decoded.shape != x.shape:
                    raise RuntimeError(f"images of {list(x.shape[1:])} come back as {list(decoded.shape[1:])}")
                total += float((x - decoded).double().square().sum())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{model.hparams['name']} cannot process these images: {reason}; set another data.image_size"
        ) from error
    mse = total / images.numel()
    if not mse < float("inf"):
        raise ConfigError(f"{model.hparams['name']} decodes these images to numbers that are not finite; adopt another")
    sigma = max(mse**0.5, LEAST_SIGMA)
    model.hparams["likelihood_options"] = {"sigma": sigma}
    model.likelihood = FittedGaussian(sigma=sigma).to(model.device)
    return sigma


def settings_of(model: Pretrained) -> dict[str, Any]:
    """The model's own settings as in a run's config."""
    cls, names = type(model), ("network", "network_options", "name", "sha256", "likelihood", "likelihood_options")
    return {"_target_": f"{cls.__module__}.{cls.__qualname__}", **{name: model.hparams[name] for name in names}}


def checkpoint_of(model: Pretrained) -> Mapping[str, Any]:
    """The content of a checkpoint that the model can be loaded from."""
    return {
        "model_class": settings_of(model)["_target_"],
        "hyper_parameters": dict(model.hparams),
        "state_dict": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
        "epoch": 0,
        "global_step": 0,
    }
