"""The training loads: images, networks, batch sizes, and enough epochs for a measurement of several seconds."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaezoo.config.errors import ConfigError, DataError
from yardstick.contestants import CONTESTANTS

MNIST_FILES = tuple(
    f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
)
QUICK_IMAGES = 128


@dataclass(frozen=True)
class Load:
    """A VAE to train on so many images, the same for every contestant.

    ``settings`` are those of ``train.py``, in which {root} stands for where data sets lie and {folder} for a folder of
    the load's own. ``images`` and ``epochs`` are by device; epochs are measured ones, after one of warm-up, and
    ``slow_epochs`` those of contestants that decode images one by one.
    """

    name: str
    title: str
    settings: tuple[str, ...]
    image_shape: tuple[int, int, int]
    images: dict[str, int]
    validation: int
    batch_size: int
    epochs: dict[str, int]
    slow_epochs: dict[str, int]
    latent_dim: int = 10
    network: str = "mlp"
    widths: tuple[int, ...] | None = None
    limited: bool = False
    """Whether ``images`` is fewer than the data set has, so that train.py has to be told."""


LOADS = {
    load.name: load
    for load in (
        Load(
            name="mnist-mlp",
            title="MNIST, MLP 784-400-20, batches of 128",
            settings=("data=mnist", "data.root={root}", "model=vae", "model.latent_dim=20", "model.widths=[400]"),
            image_shape=(1, 28, 28),
            images={"cpu": 55_000, "cuda": 55_000},
            validation=5000,
            batch_size=128,
            epochs={"cpu": 2, "cuda": 20},
            slow_epochs={"cpu": 1, "cuda": 1},
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
            slow_epochs={"cpu": 15, "cuda": 15},
        ),
        Load(
            name="sprites-conv",
            title="64x64 sprites, convolutions, batches of 64",
            settings=(
                "data=sprites",
                "data.root={root}",
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
            slow_epochs={"cpu": 1, "cuda": 1},
            network="conv",
            limited=True,
        ),
        Load(
            name="cifar-resnet",
            title="32x32x3 noise, residual network, batches of 128",
            settings=(
                "data=image_folder",
                "data.root={folder}/images",
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
            slow_epochs={"cpu": 1, "cuda": 1},
            network="resnet",
        ),
    )
}


@dataclass(frozen=True)
class Job:
    """One measurement, in plain values: what a process of its own is told."""

    load: str
    contestant: str
    device: str
    threads: int | None
    epochs: int
    images: int
    validation: int
    image_shape: tuple[int, int, int]
    network: str
    widths: tuple[int, ...] | None
    latent_dim: int
    batch_size: int
    folder: str
    """Where the load's images lie: train.pt and val.pt, (N, C, H, W) uint8."""
    root: str
    settings: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def choose(names: list[str], known: tuple[str, ...], what: str) -> list[str]:
    """The names in the order of the known ones; ConfigError for one that is not known."""
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ConfigError(f"there is no {what} {wrong[0]!r}; choose from {', '.join(known)}")
    return [name for name in known if name in names]


def make_job(
    load: Load, contestant: str, *, device: str, threads: int | None, quick: bool, folder: Path, root: Path
) -> Job:
    """A measurement of ``contestant``; ``quick`` makes it too short to say anything."""
    slow = contestant.startswith(("textbook", "pythae"))
    images = min(load.images[device], QUICK_IMAGES) if quick else load.images[device]
    folder, root = folder.absolute(), root.expanduser().absolute()
    settings = [_filled(setting, root=root, folder=folder) for setting in load.settings]
    settings.extend(CONTESTANTS[contestant].settings)
    settings.append("model.likelihood=bernoulli")  # which is what the other contestants minimise
    if load.limited or (quick and load.name != "cifar-resnet"):
        settings.append(f"data.limit={images}")
    return Job(
        load=load.name,
        contestant=contestant,
        device=device,
        threads=threads,
        epochs=1 if quick else (load.slow_epochs if slow else load.epochs)[device],
        images=images,
        validation=min(load.validation, QUICK_IMAGES) if quick else load.validation,
        image_shape=load.image_shape,
        network=load.network,
        widths=load.widths,
        latent_dim=load.latent_dim,
        batch_size=load.batch_size,
        folder=str(folder),
        root=str(root),
        settings=tuple(settings),
    )


def _filled(setting: str, **places: Path) -> str:
    """A setting with paths in their places, as Hydra reads them whatever signs they have."""
    key, _, value = setting.partition("=")
    if "{" not in value:
        return setting
    path = value.format(**places).replace("'", "\\'")
    return f"{key}='{path}'"


def check_data(load: Load, root: Path) -> None:
    """DataError if the load's images have to be downloaded first."""
    raw = root / "MNIST" / "raw"
    if load.name == "mnist-mlp" and not all((raw / name).is_file() for name in MNIST_FILES):
        raise DataError(f"MNIST is not in {root}; run: python scripts/prepare_data.py mnist --root {root}")


def check_room(load: Load, device: str, parameters: int, available: int) -> None:
    """DataError if images and model of a load need more bytes than are available."""
    needed = needed_bytes(load, device, parameters)
    if needed > available:
        kind = "GPU memory" if device == "cuda" else "memory"
        raise DataError(
            f"{load.name} needs {needed / 2**30:.2f} GiB of {kind} for its images and its model, and"
            f" {available / 2**30:.2f} GiB are available; free some, or leave it out of --loads"
        )


def needed_bytes(load: Load, device: str, parameters: int) -> int:
    """Bytes of images (uint8, and float32 for those who keep them so), weights, gradients and Adam's moments."""
    images = (load.images[device] + load.validation) * math.prod(load.image_shape)
    return images * (1 + 4) + parameters * 4 * 4
