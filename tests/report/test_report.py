"""The files that a comparison writes: what they hold, and what bad input does to them."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from vaezoo.errors import ConfigError
from vaezoo.report import build, main
from vaezoo.report.build import parse
from vaezoo.report.strips import errors, strip


def text_of(page: str) -> str:
    """What a reader sees of a page, without its markup, style and script."""
    found: list[str] = []

    class Reader(HTMLParser):
        hidden = 0

        def handle_starttag(self, tag: str, attributes: list) -> None:
            self.hidden += tag in ("style", "script")

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("style", "script")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                found.append(data)

    Reader().feed(page)
    return " ".join(" ".join(found).split())


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies of some of the shared runs, to be spoilt."""

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(runs / name, tmp_path / "copied" / name)
        return tmp_path / "copied"

    return copy


def test_every_file_is_written_and_every_picture_is_a_picture(report: Path):
    assert {path.name for path in report.iterdir()} == {"report.html", "report.md", "table.csv", "table.tex", "figures"}
    pictures = list((report / "figures").iterdir())
    assert len(pictures) > 20
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 10


def test_the_page_needs_nothing_else_and_stays_small(report: Path):
    page = (report / "report.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(http" not in page
    assert len(page) < 15e6 * 3 / 12


def test_chapters_come_in_the_order_of_interest(report: Path):
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", (report / "report.html").read_text())
    assert titles == [
        *("Tables", "Fairness", "Reconstructions", "Interpolations", "Rate and distortion", "Latent maps", "Samples"),
        *("Latent dimensions", "Training", "Cost", "What the numbers are"),
    ]


def test_the_table_has_each_variants_mean_and_interval(report: Path, runs: Path):
    rows = {row["model"]: row for row in csv.DictReader((report / "table.csv").open())}
    values = [json.loads((runs / f"ae-{seed}/summary.json").read_text())["test"]["psnr"] for seed in (0, 1)]
    mean, half = sum(values) / 2, 12.7062 * abs(values[0] - values[1]) / 2  # t of one degree of freedom
    assert float(rows["AE"]["psnr"]) == pytest.approx(mean, rel=1e-6)
    assert float(rows["AE"]["psnr_high"]) == pytest.approx(mean + half, rel=1e-5)
    assert rows["AE"]["elbo"] == ""
    assert rows["VAE"]["psnr_low"] == ""


def test_a_single_seed_is_said_to_have_no_interval(report: Path):
    seen = text_of((report / "report.html").read_text())
    assert "One seed only for VAE" in seen
    assert "1 seed " in seen


def test_references_and_reasons_stand_beside_the_numbers(report: Path):
    seen = text_of((report / "report.html").read_text())
    assert "PCA" in seen
    assert "no Inception weights on this machine" in seen
    assert "this model has no posterior" in (report / "report.html").read_text()


def test_latex_and_markdown_hold_the_same_means_as_the_page(report: Path):
    latex, markdown = (report / "table.tex").read_text(), (report / "report.md").read_text()
    psnr = re.search(r"^AE & 2 .*$", latex, re.MULTILINE)
    assert psnr
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    number = re.findall(r"\$([\d.-]+) \\pm", psnr[0])[0]
    assert number in markdown
    assert all((report / link).is_file() for link in re.findall(r"\]\((figures/[^)]*)\)", markdown))


def test_one_run_alone_makes_a_page(runs: Path, tmp_path: Path):
    assert not build([runs / "ae-0"], tmp_path)
    assert "1 model on digits" in (tmp_path / "report.html").read_text()


def test_names_with_markup_in_them_are_shown_and_not_obeyed(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("ae-0", "beta-0")
    for name in ("ae-0", "beta-0"):
        path = folder / name / "summary.json"
        summary = json.loads(path.read_text())
        summary["objective"] = "<script>alert(1)</script> $x$"
        summary["data"]["name"] = "<b>digits</b>"
        path.write_text(json.dumps(summary))
    build([folder], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<script>") == 1
    assert "<b>digits" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_runs_on_other_data_are_compared_by_group_below_a_warning(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("ae-0", "beta-0")
    path = folder / "beta-0" / "summary.json"
    summary = json.loads(path.read_text())
    summary["data"]["binarize"] = "threshold"
    path.write_text(json.dumps(summary))
    build([folder], tmp_path / "out")
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "These runs are on different data" in seen
    assert seen.count("At a glance") == 2


def test_runs_of_other_likelihoods_stand_in_tables_apart(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("beta-0", "plane-0")
    path = folder / "plane-0" / "summary.json"
    path.write_text(path.read_text().replace('"likelihood": "bernoulli"', '"likelihood": "gaussian"'))
    build([folder], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    tables = [part.partition("</table>")[0] for part in page.split('<details class="metrics"')[1:]]
    named = {re.findall(r"<summary>([^<]*)</summary>", table)[0]: table for table in tables}
    assert "ELBO" not in named["At a glance"]
    assert "BetaVAE" in named["Likelihood: bernoulli"]
    assert "BetaVAE" not in named["Likelihood: gaussian"]


def test_images_that_cannot_be_had_leave_the_numbers_and_say_why(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("ae-0", "beta-0")
    for name in ("ae-0", "beta-0"):
        path = folder / name / "config.yaml"
        config = path.read_text().replace("source: digits", "source: image_folder")
        path.write_text(re.sub(r"root: .*", f"root: {tmp_path / 'nowhere'}", config))
    assert not build([folder], tmp_path / "out")
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "the data cannot be had here" in seen
    assert "nowhere" in seen
    assert "Compare down a column" not in seen
    assert "What quality costs" in seen


def test_a_model_that_gives_no_finite_numbers_is_missing_from_the_pictures_alone(
    copied: Callable[..., Path], tmp_path: Path
):
    folder = copied("ae-0", "beta-0")
    path = folder / "ae-0" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {name: value * float("nan") for name, value in content["state_dict"].items()}
    torch.save(content, path)
    build([folder], tmp_path / "out")
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "AE is missing from the pictures: codes are not finite" in seen


def test_what_is_left_out_is_named_on_the_page_and_on_the_terminal(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(runs / "ae-0"), str(tmp_path / "none"), f"out={tmp_path / 'out'}"]) == 0
    assert "none is not a run folder" in capsys.readouterr().err
    assert "none is not a run folder" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_to_compare_is_one_sentence_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path), f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: there is no finished run to compare")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["run"], ["out=x"], ["run", "out="], ["run", "out=x", "seed=1"]])
def test_a_command_that_says_too_little_or_too_much_is_refused(arguments: list[str]):
    with pytest.raises(ConfigError, match="RUN"):
        parse(arguments)


def test_a_folder_whose_name_holds_an_equals_sign_is_a_folder(tmp_path: Path):
    (tmp_path / "beta=4").mkdir()
    assert parse([str(tmp_path / "beta=4"), "out=x"])[0] == [str(tmp_path / "beta=4")]


def test_the_same_runs_make_the_same_files(runs: Path, tmp_path: Path):
    for name in ("one", "two"):
        build([runs / "beta-0"], tmp_path / name)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path


def test_error_maps_share_one_scale():
    x = torch.zeros(2, 1, 4, 4)
    colours = errors(x, torch.full_like(x, 0.25), most=0.5)
    assert torch.equal(colours, errors(x, torch.full_like(x, 0.5), most=1.0))
    assert errors(x, x, most=0.5).max() < 0.02


def test_a_strip_keeps_every_pixel_value(tmp_path: Path):
    import base64
    import io

    images = torch.arange(2 * 4 * 4).reshape(2, 1, 4, 4) / 255
    pixels = Image.open(io.BytesIO(base64.b64decode(strip(images).partition(",")[2])))
    assert pixels.size == (2 * (4 + 2), 4)
    assert [pixels.getpixel((1 + x, 0)) for x in range(4)] == [(value, 255) for value in range(4)]
    assert pixels.getpixel((0, 0))[1] == 0
