"""A training that waited for images says so, with the numbers and with what would help here."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaezoo.data import decoding_bottleneck

GIB = 2**30
TEN_SECONDS = {"seconds": 10.0, "images": 3120}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with 8 GiB."""
    monkeypatch.setattr(decoding_bottleneck, "memory_bytes", lambda: 8 * GIB)


def test_what_waited_little_is_told_nothing() -> None:
    assert decoding_bottleneck.sentence(1.0, **TEN_SECONDS, workers=0, most_workers=8, byte_count=1) is None  # type: ignore[arg-type]
    assert decoding_bottleneck.sentence(0.0, 0.0, 0, workers=0, most_workers=8, byte_count=1) is None


@pytest.mark.parametrize(
    ("workers", "most_workers", "gib", "by", "remedy"),
    [
        (2, 8, 2, "2 workers", "set data.num_workers=8 or data.in_memory=true (needs 2,048 MiB)"),
        (0, 1, 5, "this process alone", "set data.num_workers=1"),
        (1, 1, 4, "1 worker", "set data.in_memory=true (needs 4,096 MiB)"),
        (8, 8, 5, "8 workers", "keep smaller files on disk, or give the run more processors"),
        (9, 8, 5, "9 workers", "keep smaller files on disk, or give the run more processors"),
    ],
)
def test_only_remedies_that_apply_are_named(workers: int, most_workers: int, gib: int, by: str, remedy: str) -> None:
    found = decoding_bottleneck.sentence(
        4.0, 10.0, 3120, workers=workers, most_workers=most_workers, byte_count=gib * GIB
    )
    assert found == (
        "decoding was the bottleneck: training waited for images in 40% of its time"
        f" (312 images/s from {by}; the model takes 520); {remedy}"
    )


@pytest.fixture
def folder(tmp_path: Path) -> list[str]:
    """Settings for 40 small files that are decoded while training."""
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    sizes = ["data.image_size=8", "data.channels=1", "data.limit=null", "data.val_size=4", "data.test_size=4"]
    return [
        "data=image_folder",
        f"data.root={tmp_path / 'images'}",
        *sizes,
        "data.batch_size=16",
        "callbacks=none",
        "evaluation=none",
        "model.widths=[16]",
    ]


@pytest.mark.parametrize(("much", "told"), [(0.0, True), (1.0, False)])
def test_the_end_of_a_run_says_what_was_waited(
    much: float,
    told: bool,
    folder: list[str],
    program: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding_bottleneck, "MUCH", much)
    run = tmp_path / "run"
    code, printed = program("train", *folder, "data.in_memory=false", "trainer.max_epochs=2", f"run_dir={run}")
    assert code == 0, printed
    cost = json.loads((run / "summary.json").read_text())["cost"]
    assert 0 < cost["loader_wait_seconds"] < cost["seconds"]
    assert ("decoding was the bottleneck" in (run / "train.log").read_text()) == told


def test_images_in_memory_are_not_waited_for(
    folder: list[str], program: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_bottleneck, "MUCH", -1.0)
    run = tmp_path / "run"
    code, printed = program("train", *folder, "trainer.max_epochs=1", f"run_dir={run}")
    assert code == 0, printed
    assert json.loads((run / "summary.json").read_text())["cost"]["loader_wait_seconds"] == 0
    assert "decoding" not in (run / "train.log").read_text()
