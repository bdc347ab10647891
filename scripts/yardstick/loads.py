"""What is measured: loads, contestants, their jobs, and the options that name them. It imports nothing slow.

``python -m yardstick.loads JOB`` writes a load's images to disk.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from vaezoo.config.errors import ConfigError, DataError
from yardstick.processes import read_job

MNIST_FILES = [f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
QUICK_IMAGES = 128

Job = dict[str, Any]
"""What a contestant's process is told, in values that JSON has."""


@dataclass(frozen=True)
class Load:
    """A model to train, the same for every contestant."""

    name: str
    title: str
    settings: str
    """Arguments of ``train.py``; {root} is the folder of data sets, {folder} the load's own folder."""
    images: dict[str, int]
    """Training images, by device."""
    validation: int
    epochs: dict[str, int]
    """Measured epochs after one of warm-up, by device."""
    slow_epochs: int = 1
    """Those of contestants that decode images one by one."""
    contestants: tuple[str, ...] | None = None
    """The only ones that can train it; None for those that train a VAE."""


LOADS = {
    load.name: load
    for load in (
        Load(
            "mnist-mlp",
            "MNIST, MLP 784-400-20, batches of 128",
            "data=mnist data.root='{root}' model=vae model.latent_dim=20 model.widths=[400]",
            images={"cpu": 55_000, "cuda": 55_000},
            validation=5000,
            epochs={"cpu": 2, "cuda": 20},
        ),
        Load(
            "digits-mlp",
            "16x16 digits, MLP 256-400-10, batches of 32",
            "data=digits model=vae",
            images={"cpu": 1200, "cuda": 1200},
            validation=297,
            epochs={"cpu": 49, "cuda": 49},
            slow_epochs=15,
        ),
        Load(
            "sprites-conv",
            "64x64 sprites, convolutions, batches of 64",
            "data=sprites data.root='{root}' data.val_size=1000 data.test_size=1000 data.batch_size=64 model=conv_vae",
            images={"cpu": 2048, "cuda": 65_536},
            validation=1000,
            epochs={"cpu": 2, "cuda": 2},
        ),
        Load(
            "cifar-resnet",
            "32x32x3 noise, residual network, batches of 128",
            "data=image_folder data.root='{folder}/images' data.image_size=32 data.in_memory=true data.batch_size=128"
            " model=vae model.network=resnet",
            images={"cpu": 1024, "cuda": 12_800},
            validation=256,
            epochs={"cpu": 1, "cuda": 5},
        ),
        Load(
            "mnist-vqvae",
            "MNIST, residual network, 7x7 codes, batches of 128",
            "data=mnist data.root='{root}' model=vqvae",
            images={"cpu": 1280, "cuda": 55_000},
            validation=256,
            epochs={"cpu": 1, "cuda": 3},
            contestants=("vaezoo", "vaezoo-ae"),
        ),
        Load(
            "cifar-vqgan",
            "32x32x3 noise, VQGAN, batches of 64",
            "data=image_folder data.root='{folder}/images' data.image_size=32 data.in_memory=true data.batch_size=64"
            " model=vqgan model.discriminator_options.start=0 model.discriminator_options.balance=none",
            images={"cpu": 384, "cuda": 12_800},
            validation=64,
            epochs={"cpu": 1, "cuda": 5},
            contestants=("vaezoo", "manual"),
        ),
    )
}


@dataclass(frozen=True)
class Contestant:
    """A way to train the VAE, run as ``python -m yardstick.MODULE JOB``."""

    module: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    settings: tuple[str, ...] = ()
    """Further settings of ``train.py``."""
    package: str | None = None
    """A package that it needs and vaezoo does not."""
    slow: bool = False
    by_default: bool = True


CONTESTANTS = {
    "bare": Contestant("bare"),  # a hand-written PyTorch loop over one tensor of images, fused Adam
    "bare-flush": Contestant("bare", devices=("cpu",)),  # with denormal numbers flushed, as vaezoo does
    "bare-graph": Contestant("bare", devices=("cuda",)),  # as one CUDA graph, the practical limit
    "vaezoo": Contestant("vaezoo_training"),  # python train.py, everything on
    "vaezoo-lightning": Contestant("vaezoo_training", settings=("stepping=lightning",)),
    "vaezoo-1": Contestant("vaezoo_training", devices=("cpu",), settings=("threads=1",), by_default=False),
    "vaezoo-2": Contestant("vaezoo_training", devices=("cpu",), settings=("threads=2",), by_default=False),
    "textbook-0": Contestant("textbook", slow=True),  # Lightning as its tutorials write it, without loader workers
    "textbook-2": Contestant("textbook", slow=True),  # with 2 loader workers
    "vaezoo-ae": Contestant(  # the same network with a continuous code, to see what a quantiser costs
        "vaezoo_training",
        settings=("model=ae", "model.network=resnet", "model.latent_dim=null", "model.code_channels=16"),
    ),
    "manual": Contestant("manual"),  # Lightning's manual optimisation with two optimisers, the same networks
    "pythae": Contestant("pythae_vae", slow=True, package="pythae"),  # pythae 0.1.2's own trainer, the same networks
}


def can_train(load: Load, contestant: str) -> bool:
    """Whether a contestant trains the model of a load."""
    if contestant.startswith("model="):
        return load.contestants is None
    own = {name for each in LOADS.values() for name in each.contestants or ()} - {"vaezoo"}
    return contestant not in own if load.contestants is None else contestant in load.contestants


MODEL_IMAGES = 6_400
"""Training images when models of the zoo are compared, whose steps may cost fifty times as much as the VAE's."""


def of_model(name: str) -> str:
    """The contestant that is vaezoo with its defaults and this model."""
    return f"model={name}"


def find(contestant: str) -> Contestant:
    """A contestant by its name."""
    if contestant.startswith("model="):
        return Contestant("vaezoo_training", settings=(contestant,))
    return CONTESTANTS[contestant]


def missing(contestant: str) -> str | None:
    """Why a contestant cannot be measured here; None if it can."""
    package = find(contestant).package
    if package is None or find_spec(package) is not None:
        return None
    return f'{package} is not installed; run: pip install -e ".[bench]"'


def make_job(
    load: Load, contestant: str, *, device: str, threads: int | None, folder: Path, root: Path, quick: bool = False
) -> Job:
    """A contestant's job; with ``quick`` it trains too briefly for meaningful numbers."""
    entrant = find(contestant)
    images = load.images[device]
    if contestant.startswith("model="):
        images = min(images, MODEL_IMAGES)
    if quick:
        images = min(images, QUICK_IMAGES)
    folder, root = folder.absolute(), root.expanduser().absolute()
    paths = {name: str(path).replace("'", r"\'") for name, path in (("folder", folder), ("root", root))}
    settings = [setting.format(**paths) for setting in load.settings.split()]
    settings = with_settings(settings, entrant.settings)
    settings += [f"data.limit={images}", "model.likelihood=bernoulli"]  # as others' loss
    cfg = train_config(settings)
    return {
        "load": load.name,
        "contestant": contestant,
        "device": device,
        "threads": threads,
        "settings": settings,
        "network": cfg.model.network,
        "widths": None if cfg.model.widths is None else list(cfg.model.widths),
        "latent_dim": cfg.model.latent_dim,
        "image_shape": (cfg.data.channels, cfg.data.image_size, cfg.data.image_size),
        "batch_size": cfg.data.batch_size,
        "images": images,
        "validation": min(load.validation, QUICK_IMAGES) if quick else load.validation,
        "epochs": 1 if quick else load.slow_epochs if entrant.slow else load.epochs[device],
        "folder": str(folder),  # has train.pt and val.pt, (N, C, H, W) uint8
        "root": str(root),
    }


def with_settings(settings: Sequence[str], more: Sequence[str]) -> list[str]:
    """Settings with more of them, which replace those of the same name.

    A model that is not made of fully connected layers keeps its own network instead of the load's widths, and one whose
    latent size follows from other settings keeps it.
    """
    replaced = {setting.partition("=")[0] for setting in more}
    if "model" in replaced:
        model = train_config(more).model
        replaced |= {"model.widths"} if model.network != "mlp" else set()
        replaced |= {"model.latent_dim"} if model.latent_dim is None else set()
    return [*(setting for setting in settings if setting.partition("=")[0] not in replaced), *more]


def train_config(settings: Sequence[str]) -> Any:
    """The config that ``train.py`` makes of settings."""
    from hydra import compose, initialize_config_dir

    from vaezoo.config import hydra_config

    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*settings, "run_dir=none"])


def check_data(load: str, root: Path) -> None:
    """DataError if the load's images have to be downloaded first."""
    raw = root / "MNIST" / "raw"
    if load.startswith("mnist") and not all((raw / name).is_file() for name in MNIST_FILES):
        raise DataError(f"MNIST is not in {root}; run: python scripts/prepare_data.py mnist --root {root}")


class Parser(argparse.ArgumentParser):
    """A parser with the options that both scripts have; mistakes raise ConfigError."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        self.add_argument(
            "--threads", type=int, help="number of torch threads in each process; by default torch chooses it"
        )
        self.add_argument("--data-root", type=Path, default=Path(os.environ.get("VAEZOO_DATA", "data")))

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """ConfigError for a number below 1."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")


def choose(names: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The names in the order of the known ones; ConfigError for an unknown name."""
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no {what} {name!r}; choose from {', '.join(known)}")
    return [name for name in known if name in names]


def write_images(job: Job) -> None:
    """Write the images that vaezoo's data module trains on, for all contestants."""
    import torch
    from hydra.utils import instantiate

    if job["load"].startswith("cifar"):
        write_noise(job)
    data = instantiate(train_config(job["settings"]).data)
    data.prepare_data()
    for split, count in (("train", job["images"]), ("val", job["validation"])):
        x, _ = data.examples(count, split)
        torch.save((x * 255).round().to(torch.uint8), Path(job["folder"], f"{split}.pt"))
    Path(job["out"]).write_text("{}")


def write_noise(job: Job) -> None:
    """Write random pixels as PNG files, with a folder for each split."""
    import numpy as np
    from PIL import Image

    channels, height, width = job["image_shape"]
    generator = np.random.default_rng(0)
    for split, count in (("train", job["images"]), ("val", job["validation"]), ("test", 16)):
        folder = Path(job["folder"], "images", split)
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:06d}.png", compress_level=0)


if __name__ == "__main__":
    write_images(read_job())
