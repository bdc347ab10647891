"""Pictures and animations of trained models: what was asked for is on them, or one sentence and no file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaezoo import Run
from vaezoo.commands.apply import drawing
from vaezoo.figures.mosaics import shown

Program = Callable[..., tuple[int, str]]
Made = Callable[..., Path]


@pytest.fixture
def rendered(program: Program, tmp_path: Path) -> Callable[..., tuple[Image.Image, str]]:
    """The picture that `vaezoo render` writes, and what it prints."""

    def run(source: Path, name: str, *words: str) -> tuple[Image.Image, str]:
        code, printed = program("render", str(source), f"out={tmp_path / name}", "overwrite=true", *words)
        assert code == 0, printed
        return Image.open(tmp_path / name), printed

    return run


def contains(picture: Image.Image, tile: torch.Tensor) -> bool:
    """Whether an image (C, H, W) is somewhere on the picture at its display size, up to rounding."""
    wanted = (shown(tile[None])[0] * 255).astype(np.uint8)
    pixels = np.asarray(picture.convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], wanted.shape[:2])
    places = np.argwhere(np.abs(windows[..., 20, 20].astype(int) - wanted[20, 20, 0]) < 2)
    return any(np.abs(windows[y, x].astype(int) - wanted[..., 0].astype(int)).max() <= 2 for y, x in places.tolist())


def test_samples_are_those_of_the_model_and_follow_the_seed(made: Made, rendered: Callable[..., tuple]) -> None:
    model = Run(made("vae")).model()
    drawn = model.sample(5, torch.Generator().manual_seed(7))
    assert drawn is not None
    picture, printed = rendered(made("vae"), "a.png", "what=sample", "count=5", "seed=7")
    assert all(contains(picture, image) for image in drawn)
    assert f"{picture.width}x{picture.height} pixels" in printed
    other, _ = rendered(made("vae"), "b.png", "what=sample", "count=5", "seed=8")
    assert not contains(other, drawn[0])


def test_own_images_are_the_ends_of_a_path(made: Made, rendered: Callable[..., tuple], pictures: Path) -> None:
    run, ends = Run(made("vae")), [pictures / "2" / "0.png", pictures / "5" / "5.png"]
    picture, _ = rendered(run.path, "a.png", "what=interpolate", f"a={ends[0]}", f"b={ends[1]}", "steps=3")
    trained = run.trained()
    start, end = (next(trained.images(path).batches(1)).x for path in ends)
    path = run.model().interpolate(start[0], end[0], steps=3)
    assert all(contains(picture, image) for image in (start[0], *path, end[0]))


def test_reconstructions_are_of_the_images_that_were_given(
    made: Made, rendered: Callable[..., tuple], pictures: Path
) -> None:
    run = Run(made("ae"))
    picture, printed = rendered(run.path, "a.png", "what=reconstruct", f"images={pictures}", "count=3")
    x = next(run.trained().images(pictures).batches(3)).x
    assert all(contains(picture, image) for image in (*x, *run.model().reconstruct(x)))
    assert "are resized to the 16x16 of the model" in printed


@pytest.mark.parametrize("what", ["reconstruct", "interpolate", "traverse"])
def test_an_animation_runs_forth_and_back(what: str, made: Made, rendered: Callable[..., tuple]) -> None:
    animation, printed = rendered(made("vae"), "a.gif", f"what={what}", "steps=4", "count=2", "rows=3")
    frames = 2 if what == "reconstruct" else 4
    assert f", {frames} frames" in printed
    assert animation.n_frames == 2 * frames - 2
    pixels = []
    for frame in range(animation.n_frames):
        animation.seek(frame)
        pixels.append(np.asarray(animation.convert("L")).astype(int))
    assert np.abs(pixels[0] - pixels[1]).max() > 50
    for one, other in zip(pixels[1:frames], pixels[:frames:-1], strict=False):
        assert np.abs(one - other).max() < 20


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("vqvae", ("what=traverse",)),
        ("vqvae", ("what=sample",)),
        ("conditional_vae", ("what=sample", "label=3", "count=4")),
        ("conditional_vae", ("what=interpolate", "count=2")),
        ("conditional_vae", ("what=traverse", "rows=2")),
    ],
)
def test_every_kind_of_code_can_be_drawn(
    variant: str, words: tuple[str, ...], made: Made, rendered: Callable[..., tuple]
) -> None:
    picture, _ = rendered(made(variant), "a.png", *words)
    assert np.asarray(picture).std() > 10


def test_exported_weights_are_sampled_without_images(
    made: Made, rendered: Callable[..., tuple], program: Program, pictures: Path, tmp_path: Path
) -> None:
    code, printed = program("export", str(made("vae")), f"out={tmp_path / 'model'}")
    assert code == 0, printed
    of_file, _ = rendered(tmp_path / "model.safetensors", "a.png", "what=sample", "count=4")
    of_run, _ = rendered(made("vae"), "b.png", "what=sample", "count=4")
    tiles = [np.asarray(picture)[60:] for picture in (of_file, of_run)]
    assert all(part.std() > 10 for part in tiles)
    ends = [f"{name}={pictures / '5' / number}" for name, number in (("a", "4.png"), ("b", "5.png"))]
    path, _ = rendered(tmp_path / "model.safetensors", "c.png", "what=interpolate", *ends)
    assert np.asarray(path).std() > 10
    code, printed = program("render", str(tmp_path / "model.safetensors"), "what=traverse", "out=x.png")
    assert "needs images=FOLDER or FILE with exported weights" in printed


def test_frames_of_different_sizes_are_made_one_size() -> None:
    frames = drawing._of_one_size([np.zeros((2, 3, 3), np.uint8), np.zeros((4, 1, 3), np.uint8)])
    assert [frame.shape for frame in frames] == [(4, 3, 3)] * 2
    assert frames[0][2:].min() == 255
    assert frames[1][:, 1:].min() == 255


def test_what_cannot_be_drawn_is_one_sentence_and_no_file(
    made: Made, program: Program, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(made("vae"))
    for words, said in {
        ("out=x.png",): "needs what=sample, reconstruct, interpolate or traverse",
        ("out=x.png", "what=walk"): "render.what must be",
        ("out=x.jpg", "what=sample"): "out must end in .png, .gif",
        ("out=x.gif", "what=sample"): "samples do not move",
        ("out=x.png", "what=interpolate", "a=a.png"): "needs both ends, a=FILE and b=FILE, or neither",
        ("out=x.png", "what=interpolate", f"a={pictures}", f"b={pictures}"): "a and b must be image files",
        ("out=x.png", "what=sample", "a=a.png"): "a=FILE is for what=interpolate and what=traverse",
        ("out=x.png", "what=sample", "label=1"): "label=1 is for a conditional model, and VAE is not one",
        ("out=x.png", "what=sample", "count=0"): "render.count must be at least 1, got 0",
        ("out=x.png", "what=sample", "prior=mixture"): "sample has no mixture",
        ("out=x.png", "what=interpolate", f"images={pictures / '2' / '0.png'}"): "an interpolation needs two images",
    }.items():
        code, printed = program("render", run, *words)
        assert code == 1, (words, printed)
        assert said in printed
        assert "Traceback" not in printed
    code, printed = program("render", str(made("vqvae")), "out=x.gif", "what=traverse")
    assert "discrete codes do not move in small steps" in printed
    assert not list(tmp_path.glob("x.*"))
