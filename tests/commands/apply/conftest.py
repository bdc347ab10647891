"""Runs and images to which trained models are applied."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaezoo.commands import command_line

SIZES = {"vqvae": "model.widths=[8,8]", "other": "model.widths=[16]"}
SHORT = ("trainer.max_steps=2", "callbacks=none", "evaluation=none", "data.limit=256")


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run of a variant on the digits after two steps, which is made once for all tests of this package."""
    known: dict[tuple[str, ...], Path] = {}

    def run(variant: str, *overrides: str) -> Path:
        key = (variant, *overrides)
        if key not in known:
            path = tmp_path_factory.mktemp("runs") / variant
            size = SIZES.get(variant, SIZES["other"])
            words = ["vaezoo", "train", f"run_dir={path}", f"model={variant}", size, *SHORT, *overrides]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", words)
                patch.setattr(logging.getLogger(), "handlers", [])  # training adds one for its own output
                command_line.main()
            known[key] = path
        return known[key]

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of eight grey images of 20x30 pixels in the folders 2 and 5, and one file that cannot be read."""
    noise = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / "pictures" / ("2" if number < 3 else "5")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (20, 30), dtype=np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "pictures" / "5" / "damaged.png").write_bytes(b"no image")
    return tmp_path / "pictures"
