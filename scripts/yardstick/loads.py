"""What is measured: loads, contestants, their jobs, and the options that name them. It imports nothing slow.

``python -m yardstick.loads JOB`` writes a load's images to disk.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from vaezoo.config.errors import ConfigError, DataError
from yardstick.processes import read_job

MNIST_FILES = [f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
QUICK_IMAGES = 128


@dataclass(frozen=True)
class Load:
    """A VAE to train, the same for every contestant.

    ``settings`` are arguments of ``train.py``; {root} is the folder of data sets, {folder} the load's own folder.
    ``images`` and ``epochs`` are by device, and epochs do not count the one of warm-up.
    """

    name: str
    title: str
    settings: tuple[str, ...]
    image_shape: tuple[int, int, int]
    images: dict[str, int]
    validation: int
    batch_size: int
    epochs: dict[str, int]
    slow_epochs: int = 1
    """Epochs for contestants that decode images one by one."""
    latent_dim: int = 10
    network: str = "mlp"
    widths: tuple[int, ...] | None = None
    limited: bool = False
    """Whether the data set has more than ``images``, so that ``train.py`` has to be told."""


LOADS = {
    load.name: load
    for load in (
        Load(
            name="mnist-mlp",
            title="MNIST, MLP 784-400-20, batches of 128",
            settings=("data=mnist", "data.root='{root}'", "model=vae", "model.latent_dim=20", "model.widths=[400]"),
            image_shape=(1, 28, 28),
            images={"cpu": 55_000, "cuda": 55_000},
            validation=5000,
            batch_size=128,
            epochs={"cpu": 2, "cuda": 20},
            latent_dim=20,
            widths=(400,),
        ),
        Load(
            name="digits-mlp",
            title="16x16 digits, MLP 256-400-10, batches of 32",
            settings=("data=digits", "model=vae"),
            image_shape=(1, 16, 16),
            images={"cpu": 1200, "cuda": 1200},
            validation=297,
            batch_size=32,
            epochs={"cpu": 49, "cuda": 49},
            slow_epochs=15,
        ),
        Load(
            name="sprites-conv",
            title="64x64 sprites, convolutions, batches of 64",
            settings=(
                "data=sprites",
                "data.root='{root}'",
                "data.val_size=1000",
                "data.test_size=1000",
                "model=conv_vae",
                "data.batch_size=64",
            ),
            image_shape=(1, 64, 64),
            images={"cpu": 2048, "cuda": 65_536},
            validation=1000,
            batch_size=64,
            epochs={"cpu": 2, "cuda": 2},
            network="conv",
            limited=True,
        ),
        Load(
            name="cifar-resnet",
            title="32x32x3 noise, residual network, batches of 128",
            settings=(
                "data=image_folder",
                "data.root='{folder}/images'",
                "data.image_size=32",
                "data.in_memory=true",
                "model=vae",
                "model.network=resnet",
                "data.batch_size=128",
            ),
            image_shape=(3, 32, 32),
            images={"cpu": 1024, "cuda": 12_800},
            validation=256,
            batch_size=128,
            epochs={"cpu": 1, "cuda": 5},
            network="resnet",
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
    "pythae": Contestant("pythae_vae", slow=True, package="pythae"),  # pythae 0.1.2's own trainer, the same networks
}


def missing(contestant: str) -> str | None:
    """Why a contestant cannot be measured here; None if it can."""
    package = CONTESTANTS[contestant].package
    if package is None or find_spec(package) is not None:
        return None
    return f'{package} is not installed; run: pip install -e ".[bench]"'


def make_job(
    load: Load, contestant: str, *, device: str, threads: int | None, folder: Path, root: Path, quick: bool = False
) -> dict[str, Any]:
    """What a contestant's process is told; with ``quick`` it trains too briefly for meaningful numbers."""
    entrant = CONTESTANTS[contestant]
    images = min(load.images[device], QUICK_IMAGES) if quick else load.images[device]
    folder, root = folder.absolute(), root.expanduser().absolute()
    paths = {name: str(path).replace("'", r"\'") for name, path in (("folder", folder), ("root", root))}
    settings = [setting.format(**paths) for setting in load.settings]
    settings += [*entrant.settings, "model.likelihood=bernoulli"]  # the loss of the other contestants
    if load.limited or (quick and load.name != "cifar-resnet"):
        settings.append(f"data.limit={images}")
    return {
        **asdict(load),
        "contestant": contestant,
        "device": device,
        "threads": threads,
        "settings": settings,
        "images": images,
        "validation": min(load.validation, QUICK_IMAGES) if quick else load.validation,
        "epochs": 1 if quick else load.slow_epochs if entrant.slow else load.epochs[device],
        "folder": str(folder),  # has train.pt and val.pt, (N, C, H, W) uint8
        "root": str(root),
    }


def check_data(load: Load, root: Path) -> None:
    """DataError if the load's images have to be downloaded first."""
    raw = root / "MNIST" / "raw"
    if load.name == "mnist-mlp" and not all((raw / name).is_file() for name in MNIST_FILES):
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


def write_images(job: dict[str, Any]) -> None:
    """Write the images that vaezoo's data module trains on, for all contestants."""
    import torch
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from vaezoo.config import hydra_config

    folder = Path(job["folder"])
    if job["name"] == "cifar-resnet":
        write_noise(folder / "images", job)
    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=[*job["settings"], "run_dir=none"])
    data = instantiate(cfg.data)
    data.prepare_data()
    found = data.describe()["train"]
    if found != job["images"]:
        raise DataError(f"{job['name']} should train on {job['images']} images, but has {found}")
    for split, count in (("train", job["images"]), ("val", job["validation"])):
        x, _ = data.examples(count, split)
        torch.save((x * 255).round().to(torch.uint8), folder / f"{split}.pt")
    Path(job["out"]).write_text("{}")


def write_noise(folder: Path, job: dict[str, Any]) -> None:
    """Write random pixels as PNG files, with a folder for each split."""
    import numpy as np
    from PIL import Image

    channels, height, width = job["image_shape"]
    generator = np.random.default_rng(0)
    for split, count in (("train", job["images"]), ("val", job["validation"]), ("test", 16)):
        (folder / split).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{index:06d}.png", compress_level=0)


if __name__ == "__main__":
    write_images(read_job())
