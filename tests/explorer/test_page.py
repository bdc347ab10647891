"""A page contains what the models and the data say, all that it needs, and nothing else."""

import base64
import gzip
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import MODELS
from tests.explorer.conftest import RUNS, store, untrained
from vaezoo.commands import explore
from vaezoo.config.errors import RunError
from vaezoo.explorer import build, images, model_content, runtime, write_page
from vaezoo.explorer.images import Images
from vaezoo.explorer.model_content import content_of
from vaezoo.explorer.page import as_json
from vaezoo.models import Autoencoder
from vaezoo.models.loading import Run

pytest.importorskip("onnxruntime", reason='needs pip install -e ".[export]"')

Program = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def digits(stored: dict[str, Path]) -> Images:
    return images.read(Run(stored["cloud"]).data())


@pytest.fixture(scope="module")
def content(page: Path) -> dict[str, Any]:
    """What the browser reads."""
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def values(stored: dict[str, Any]) -> np.ndarray:
    kind = "<i4" if stored["type"] == "int32" else "<f4"
    return np.frombuffer(unpacked(stored["values"]), kind).reshape(stored["shape"])


# the file ------------------------------------------------------------------------------------------------------------


def test_a_page_refers_to_nothing_outside_and_allows_only_its_own_scripts(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:,)', text)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    assert "'unsafe-inline'" not in policy[1]
    assert policy[1].startswith("default-src 'none';")
    parts = re.findall(r"<(script|style)>(.*?)</\1>", text, re.DOTALL)
    assert [kind for kind, _ in parts] == ["style", "script", "script"]
    for _, part in parts:
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy[1]
    assert "Permission is hereby granted, free of charge" in text


def test_a_page_of_four_small_models_is_small(page: Path) -> None:
    assert page.stat().st_size < 8e6


def test_the_runtime_is_the_published_one_and_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wanted in runtime.SHA256.items():
        assert hashlib.sha256(gzip.decompress(runtime.compressed(name))).hexdigest() == wanted
    monkeypatch.setitem(runtime.SHA256, runtime.MODULE, "0" * 64)
    with pytest.raises(RunError, match=r"threaded\.mjs of vaezoo is not the file of onnxruntime-web.*reinstall vaezoo"):
        runtime.compressed(runtime.MODULE)


def test_names_of_runs_are_text_and_never_markup() -> None:
    named = [model_content.Book("</script><b>", 2, 1, 1, 0, 1, [])]
    text = as_json(named)
    assert "<" not in text
    assert json.loads(text)[0]["name"] == "</script><b>"


# what is on it -------------------------------------------------------------------------------------------------------


def test_images_are_those_of_the_data_with_their_labels(content: dict[str, Any], digits: Images) -> None:
    shown = content["images"]
    assert shown["label"] == digits.measured_labels[: digits.count].tolist()
    sheet = shown["training"]
    pixels = np.array(Image.open(io.BytesIO(unpacked(sheet["png"]))))
    row, column = divmod(31, sheet["columns"])
    tile = pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
    assert np.abs(tile / 255 - digits.measured[31, 0].numpy()).max() < 0.5 / 255 + 1e-6


def test_codes_and_ranges_are_those_of_training_images(
    content: dict[str, Any], digits: Images, models: dict[str, Autoencoder]
) -> None:
    shown = {model["name"]: model for model in content["models"]}
    assert list(shown) == list(RUNS)
    model, found = models["cloud"], shown["cloud"]
    with torch.no_grad():
        posterior: Any = model.posterior(digits.measured)
    mean, logvar = posterior.moments()
    assert np.abs(values(found["codes"]) - mean[: digits.count].numpy()).max() < 1e-5
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(0)
    sizes = [slider["size"] for slider in found["sliders"]]
    assert sizes == sorted(sizes, reverse=True)
    for slider in found["sliders"]:
        dimension = int(slider["name"].removeprefix("z"))
        assert slider["size"] == pytest.approx(float(kl[dimension]), rel=1e-4)
        low, high = np.quantile(mean[:, dimension].numpy(), [0.005, 0.995])
        assert (slider["low"], slider["high"]) == pytest.approx((low, high), abs=1e-4)
    assert found["unit"] == "nats"
    assert found["metrics"] == ["PSNR 17.2 dB"]
    assert values(found["draws"]["mean"]).tolist() == [0, 0, 0]
    assert values(found["draws"]["std"]).tolist() == [1, 1, 1]


def test_a_model_without_a_prior_has_draws_of_a_mixture_and_says_so(content: dict[str, Any]) -> None:
    found = content["models"][0]
    assert not found["has_prior"]
    assert found["unit"] == "variance"
    assert "mixture" in found["draws"]["source"]
    assert values(found["draws"]["stored"]).shape == (64, 2)


def test_indices_that_are_drawn_occur_at_their_position(content: dict[str, Any], digits: Images, models: Any) -> None:
    found = content["models"][list(RUNS).index("grid")]
    real = models["grid"].index_layout.sequences(models["grid"].indices(digits.measured[: digits.count]))
    drawn = values(found["draws"]["stored"])
    assert drawn.shape[1] == real.shape[1] == 16
    assert all(set(drawn[:, place]) <= set(real[:, place].tolist()) for place in range(16))
    [book] = found["books"]
    assert (book["height"], book["width"]) == (4, 4)
    counts = torch.bincount(real.flatten(), minlength=book["size"])
    assert counts[book["common"]].tolist() == sorted(counts.tolist(), reverse=True)[:12]


def test_unused_dimensions_are_marked(digits: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = untrained("vae", "model.latent_dim=2", "model.widths=[16]")
    with torch.no_grad():
        last = [module for module in model.encoder.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight[0], last.bias[0] = 0, 0
    monkeypatch.setattr(model_content, "written", lambda *_: {})
    found = content_of(model, "half", {}, digits)
    assert {slider.name: slider.used for slider in found.sliders} == {"z0": False, "z1": True}


def strokes(width: int) -> Tensor:
    drawn = torch.zeros(5, 1, 28, 28)
    drawn[:, 0, 4:24, 12 : 12 + width] = 1
    return drawn


@pytest.mark.parametrize("width", [2, 4])
def test_the_pen_has_the_width_and_place_of_strokes(width: int) -> None:
    pen = images.pen_of(strokes(width))
    assert pen is not None
    assert pen.width == pytest.approx(width, rel=0.25)
    assert (pen.side, pen.x, pen.y, pen.level) == (20, 12 + width / 2, 14, 1)


def test_what_is_not_drawn_on_black_has_no_pen() -> None:
    assert images.pen_of(strokes(3).expand(5, 3, 28, 28)) is None
    assert images.pen_of(1 - strokes(3)) is None
    assert images.pen_of(torch.zeros(5, 1, 28, 28)) is None


@pytest.mark.nightly
@pytest.mark.parametrize("variant", MODELS)
def test_every_model_can_be_explored(variant: str, digits: Images) -> None:
    found = content_of(untrained(variant), variant, {}, digits)  # compares its programs with the model
    assert found.draws is not None
    assert found.books or found.codes is not None


# what is refused -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_on_the_page_is_left_out_with_the_way_in_python(
    stored: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"elsewhere": store(tmp_path / "e", untrained("ae"), data={"name": "mnist", "image_shape": [1, 28, 28]})}
    large = {"large": store(tmp_path / "large", untrained("ae", "model.widths=[400]"))}
    monkeypatch.setattr(model_content, "MOST_BYTES", 400_000)
    monkeypatch.setattr(build, "MOST_MODELS", 1)
    named = {**large, "point": stored["point"], "cloud": stored["cloud"], **others}
    left_out = write_page(named, tmp_path / "x.html")
    assert left_out[0] == (
        "elsewhere, because it is on mnist of 1x28x28, and the first run on digits of 1x16x16; make a page for each"
        " data set"
    )
    assert re.match(r"large, because its weights take 1 MB, .*; explore it in Python: model = vaezoo", left_out[1])
    assert left_out[2] == "cloud, because a page has at most 1 models; make another page for the rest"
    assert "elsewhere, because" in (tmp_path / "x.html").read_text()


def test_a_missing_package_is_named_before_anything_is_read(
    stored: dict[str, Path], tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, printed = program("explore", str(stored["point"]), f"out={tmp_path / 'x.html'}")
    assert code == 1
    assert 'this needs the package onnxscript; to install it: pip install -e ".[export]"' in printed
    assert list(tmp_path.iterdir()) == []


def test_no_page_is_written_without_a_model(
    stored: dict[str, Path], tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RunError("the model.encoder cannot be written as a onnx program: no operator")

    monkeypatch.setattr("vaezoo.explorer.programs.write_program", fail)
    out = tmp_path / "deep" / "x.html"
    code, printed = program("explore", str(stored["point"]), f"out={out}")
    assert code == 1
    assert "there is no model for a page: point, because the model.encoder cannot be written" in printed
    assert "vaezoo.load(" in printed
    assert not out.parent.exists()


# the command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN"], "needs run folders and out=FILE.html"),
        (["out=x.html"], "needs run folders and out=FILE.html"),
        (["RUN", "out=x"], "out must be the name of an HTML file, such as x.html, got x"),
        (["RUN", "out=x.html", "checkpoint=first"], "explore.checkpoint"),
        (["RUN", "out=x.html", "ouch=1"], "explore.ouch is not a setting here"),
        (["nowhere", "out=x.html"], "nowhere"),
    ],
)
def test_wrong_lines_are_refused_in_one_sentence(
    words: list[str], said: str, stored: dict[str, Path], program: Program
) -> None:
    code, printed = program("explore", *[str(stored["point"]) if word == "RUN" else word for word in words])
    assert code == 1
    assert said in printed
    [line] = printed.strip().splitlines()
    assert line.startswith("error: ")


def test_the_command_writes_a_page(stored: dict[str, Path], program: Program, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    code, printed = program("explore", str(stored["point"]), f"out={out}")
    assert code == 0, printed
    assert f"explorer  {out} (" in printed
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_folders_stand_for_their_runs_which_have_different_names(tmp_path: Path) -> None:
    for name in ("a/run", "b/run", "b/other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
    found = explore.named([tmp_path / "a", tmp_path / "b", tmp_path / "a" / "run"])
    assert list(found) == ["a/run", "b/other", "b/run"]
    assert list(explore.named([tmp_path / "b"])) == ["other", "run"]
