"""Writes the images of a load to disk, once for all contestants: those that vaezoo's own data module trains on."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from vaezoo.config import hydra_config
from yardstick.readings import read_job


def main() -> None:
    job = read_job()
    folder = Path(job["folder"])
    if job["load"] == "cifar-resnet":
        write_noise(folder / "images", job)
    with initialize_config_dir(str(hydra_config.CONFIGS), version_base="1.3"):
        cfg = compose("train", overrides=[*job["settings"], "run_dir=none"])
    data = instantiate(cfg.data)
    data.prepare_data()
    sizes = data.describe()
    if sizes["train"] != job["images"]:
        raise ValueError(f"{job['load']} should train on {job['images']} images, but has {sizes['train']}")
    for split, count in (("train", job["images"]), ("val", job["validation"])):
        x, _ = data.examples(count, split)
        torch.save((x * 255).round().to(torch.uint8), folder / f"{split}.pt")
    Path(job["out"]).write_text("{}")


def write_noise(folder: Path, job: dict[str, Any]) -> None:
    """Random pixels as PNG files, with folders for the splits."""
    channels, height, width = job["image_shape"]
    generator = np.random.default_rng(0)
    for split, count in (("train", job["images"]), ("val", job["validation"]), ("test", 16)):
        (folder / split).mkdir(parents=True)
        for position in range(count):
            pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{position:06d}.png", compress_level=0)


if __name__ == "__main__":
    main()
