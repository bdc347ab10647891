"""The files that a comparison writes: what they hold, and what bad input does to them."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.comparison.test_comparison import record, seed_group
from vaezoo.commands.compare import main, parse
from vaezoo.comparison import Finding, Group, RunRecord, SeedGroup, check, fairness, group, unranked
from vaezoo.comparison.report import build, charts, drawing, summary
from vaezoo.comparison.report.drawing import chart, key_of, panel, styled
from vaezoo.comparison.report.strips import errors, strip
from vaezoo.comparison.report.tables import tables
from vaezoo.config.errors import ConfigError, RunError


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
    pictures = list((report / "figures").glob("*.png"))
    assert len(pictures) > 20
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 300
            assert image.info["dpi"] == pytest.approx((300, 300), abs=1)


def test_every_picture_is_there_as_pdf_too_with_letters_and_without_a_date(report: Path):
    figures = report / "figures"
    assert {path.stem for path in figures.glob("*.pdf")} == {path.stem for path in figures.glob("*.png")}
    for path in figures.glob("*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content  # TrueType, which journals ask for
        assert b"CreationDate" not in content
    assert len(list(figures.iterdir())) == 2 * len(list(figures.glob("*.png")))


def test_a_report_without_pdf_has_the_same_page(runs: Path, report: Path, tmp_path: Path):
    build([runs], tmp_path, pdf=False)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        path.name for path in (report / "figures").iterdir() if path.suffix != ".pdf"
    }
    pages = [re.sub(r"\d+ \w+ 20\d\d", "", (folder / "report.html").read_text()) for folder in (tmp_path, report)]
    assert pages[0] == pages[1]


def test_a_charts_file_has_a_legend_that_its_drawing_in_the_page_has_not(tmp_path: Path):
    with styled():
        figure, axes = chart("title")
        axes.plot([1, 2], [3, 4])
        key = key_of({at: f"a model with a name of its own {at}" for at in range(5)})
        made = panel(figure, "name", "alt", tmp_path, key)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(entry.get_label()) for entry in key]
    assert "a model with" not in made.svg
    box, page = legend.get_window_extent(), figure.bbox
    assert box.x0 >= 0
    assert box.x1 <= page.x1
    assert box.y0 >= 0
    assert box.y1 <= axes.get_tightbbox().y0 + 1  # below the axes and what they are labelled with


def test_costs_of_several_powers_of_ten_are_labelled_with_plain_numbers(tmp_path: Path):
    class Group:
        label = "a model"

        def __init__(self, flops: float) -> None:
            self.flops = flops

        def values(self, name: str) -> dict[int, float]:
            return {0: self.flops if name == "flops_per_image" else 20.0}

    groups = [Group(4e5), Group(2e7)]
    with styled():
        made = charts.cost(groups, [0, 1], "flops_per_image", "psnr", "cost", tmp_path)  # type: ignore[arg-type]
    assert "1,000,000<" in made.svg
    assert "mathdefault" not in made.svg


def test_charts_of_several_things_are_drawn_with_a_legend(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keys: dict[str, list[str]] = {}
    monkeypatch.setattr(
        "vaezoo.comparison.report.drawing._add_legend",
        lambda figure, key: keys.update(
            {figure.axes[0].get_title(loc="left"): [str(each.get_label()) for each in key]}
        ),
    )
    build([runs / "ae-0", runs / "beta-0"], tmp_path, pdf=False)
    models = {"AE", "BetaVAE beta=4"}
    for title, expected in {
        "AE": {"0", "9", "2σ of N(0, I)"},
        "Rate and distortion, bernoulli": models | {"equal ELBO"},
        "PSNR ↑ by FLOP per image": models,
        "Pace of pair 1, linear": models,
    }.items():
        assert expected <= set(keys[title])
    assert keys["KL by step"] == ["BetaVAE beta=4", "validation", "training"]  # an AE has no KL


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
        *("Latent dimensions", "Training", "Cost", "Glossary"),
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


def test_samples_and_numbers_of_a_mixture_follow_those_of_the_prior(report: Path):
    page = (report / "report.md").read_text()
    assert re.search(r"\| prior FD classifier[^|]*\| mixture FD classifier", page)
    own, fitted = re.findall(r"^!\[(Samples.*)\]", page, re.M)
    assert own == "Samples from each model's prior"
    assert fitted == "Samples from a Gaussian mixture fitted to each model's codes"


def test_latex_and_markdown_hold_the_same_means_as_the_page(report: Path):
    latex, markdown = (report / "table.tex").read_text(), (report / "report.md").read_text()
    psnr = re.search(r"^AE & 2 .*$", latex, re.MULTILINE)
    assert psnr
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    number = re.findall(r"(?<=[${])(\d[\d.]*) \\pm", psnr[0])[0]
    assert number in markdown
    assert all((report / link).is_file() for link in re.findall(r"\]\((figures/[^)]*)\)", markdown))


def test_the_best_of_each_column_is_bold_and_weights_are_greek_in_latex(report: Path):
    latex = (report / "table.tex").read_text()
    rows = [line.split(" & ") for line in latex.splitlines() if line.endswith(r"\\")]
    heads, models = rows[0], rows[1:]
    assert any(row[0] == r"BetaVAE, $\beta = 4$" for row in models)
    for column, head in enumerate(heads):
        ranked = r"arrow$" in head and sum("$" in row[column] for row in models) > 1
        assert sum(r"\mathbf" in row[column] for row in models) == (1 if ranked else 0), head


def test_one_seed_is_said_once_and_not_by_every_metric(runs: Path, tmp_path: Path):
    build([runs / "ae-0", runs / "beta-0"], tmp_path, pdf=False)
    for file in ("report.html", "report.md"):
        seen = (tmp_path / file).read_text()
        glance = text_of(seen.partition("At a glance")[2].partition("Likelihood: bernoulli")[0])
        assert glance.count("differences cannot be tested") == 1
        assert "all metrics: with one seed for each model" in glance


def test_where_some_have_one_seed_they_are_named(report: Path):
    seen = text_of((report / "report.html").read_text())
    assert "with one seed for VAE, differences cannot be tested" in seen


def test_sample_sizes_stand_in_the_header_or_beside_the_number_where_they_differ(
    runs: Path, report: Path, copied: Callable[..., Path], tmp_path: Path
):
    first = (report / "report.html").read_text().partition("</table>")[0]
    assert re.search(r"PSNR&nbsp;↑</button><small>dB</small><small>n\u00a0=\u00a0300</small>", first)
    folder = copied("ae-0", "beta-0")
    path = folder / "beta-0" / "evaluation.json"
    content = json.loads(path.read_text())
    content["metrics"]["psnr"]["n"] = 200
    path.write_text(json.dumps(content))
    build([folder], tmp_path / "out", pdf=False)
    first = (tmp_path / "out" / "report.html").read_text().partition("</table>")[0]
    assert "PSNR&nbsp;↑</button><small>dB</small></th>" in first
    assert len(re.findall(r"</span><small>n\u00a0=\u00a0[23]00</small>", first)) == 2


def glance_of(records: list[RunRecord]) -> dict[str, list[str]]:
    """The cells of the first table by column."""
    (found,) = group(records)
    table = tables(found, unranked(check(found)))[0]
    return {column.title: [row.cells[at].text for row in table.rows] for at, column in enumerate(table.columns)}


@pytest.mark.parametrize(
    ("n", "se", "shown"), [(300, 0.6, "−108.2"), (300, 6.0, "−108"), (10_000, 0.06, "−108.20"), (300, None, "−108")]
)
def test_one_seed_has_the_digits_that_its_images_support(n: int, se: float | None, shown: str):
    run_record = record(elbo={"value": -108.2041, "n": n} | ({"se": se} if se else {}))
    assert glance_of([run_record])["ELBO"] == [shown]


def test_a_share_has_the_digits_of_its_binomial_error_and_counts_have_all():
    run_record = record(probe_accuracy={"value": 0.746666, "n": 300}, active_units={"value": 4, "n": 300})
    found = glance_of([run_record])
    assert found["probe accuracy"] == ["0.75"]
    assert found["active units"] == ["4"]


def test_seeds_that_agree_closely_do_not_make_up_for_few_images():
    records = [
        record(at, probe_accuracy={"value": value, "n": 300}) for at, value in enumerate((0.7461, 0.7462, 0.7463))
    ]
    (found,) = group(records)
    cell = next(row.cells[0] for row in tables(found, {})[0].rows)
    assert (cell.text, cell.half) == ("0.75", "0.0002")


def shared(folder: Path, *names: str) -> None:
    """Let runs have trained at the same time on one machine."""
    for name in names:
        path = folder / name / "summary.json"
        summary = json.loads(path.read_text())
        summary["cost"] |= {"sessions": [[100.0, 110.0]], "runs_at_once": 2}
        path.write_text(json.dumps(summary))


def test_times_of_runs_that_shared_a_machine_are_said_not_to_be_comparable_and_flops_are_drawn(
    copied: Callable[..., Path], tmp_path: Path
):
    folder = copied("ae-0", "beta-0", "ae-1", "beta-1")
    shared(folder, "ae-0", "beta-0", "ae-1", "beta-1")
    build([folder], tmp_path / "out", pdf=False)
    page = (tmp_path / "out" / "report.html").read_text()
    seen = text_of(page)
    assert "4 of 4 runs trained while others used the same machine" in seen
    assert "training time, images per second: not ranked, because runs shared the machine" in seen.replace(
        "images per second, training time", "training time, images per second"
    )
    cells = re.findall(r"<summary>Cost</summary>(.*?)</table>", page, re.DOTALL)[0]
    heads = re.findall(r"<button type=\"button\">([^&<]*)", cells)
    for row in re.findall(r"<tr>(.*?)</tr>", cells.partition("<tbody>")[2], re.DOTALL):
        columns = re.findall(r"<td.*?</td>", row, re.DOTALL)
        for name in ("training time", "images per second"):
            cell = columns[heads.index(name) - 1]
            assert "mark" not in cell
            assert '"top"' not in cell
            assert "≈" not in cell
    figures = {path.stem for path in (tmp_path / "out" / "figures").glob("cost-*.png")}
    assert figures
    assert all("flops" in name for name in figures)
    assert not list((tmp_path / "out" / "figures").glob("*by-time*"))
    assert "training time" not in page.partition("</table>")[0]
    assert "FLOP per image" in page.partition("</table>")[0]


def test_a_model_that_leaves_most_dimensions_unused_is_named_with_what_helps(
    copied: Callable[..., Path], tmp_path: Path
):
    folder = copied("ae-0", "beta-0")
    path = folder / "beta-0" / "evaluation.json"
    for active, said in ((4, True), (5, False)):  # of ten
        content = json.loads(path.read_text())
        content["metrics"]["active_units"] = {"value": active}
        path.write_text(json.dumps(content))
        build([folder], tmp_path / "out", pdf=False)
        for file in ("report.html", "report.md"):
            seen = (tmp_path / "out" / file).read_text()
            assert ("BetaVAE beta=4: only 4 of 10 latent dimensions are active" in seen) == said
            assert ("a smaller weight of the KL (model.beta)" in seen) == said
            assert "AE: only" not in seen


def test_one_run_alone_makes_a_page(runs: Path, tmp_path: Path):
    assert not build([runs / "ae-0"], tmp_path, pdf=False)
    assert "1 model on digits" in (tmp_path / "report.html").read_text()


def test_names_with_markup_in_them_are_shown_and_not_obeyed(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("ae-0", "beta-0")
    for name in ("ae-0", "beta-0"):
        path = folder / name / "summary.json"
        summary = json.loads(path.read_text())
        summary["objective"] = "<script>alert(1)</script> $x$"
        summary["data"]["name"] = "<b>digits</b>"
        path.write_text(json.dumps(summary))
    build([folder], tmp_path / "out", pdf=False)
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
    build([folder], tmp_path / "out", pdf=False)
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "These runs are on different data" in seen
    assert seen.count("At a glance") == 2


def test_runs_of_other_likelihoods_stand_in_tables_apart(copied: Callable[..., Path], tmp_path: Path):
    folder = copied("beta-0", "plane-0")
    path = folder / "plane-0" / "summary.json"
    path.write_text(path.read_text().replace('"likelihood": "bernoulli"', '"likelihood": "gaussian"'))
    build([folder], tmp_path / "out", pdf=False)
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
    assert not build([folder], tmp_path / "out", pdf=False)
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "the data cannot be read" in seen
    assert "nowhere" in seen
    assert "Compare down a column" not in seen
    assert "Quality and cost" in seen


def test_a_model_that_gives_no_finite_numbers_is_missing_from_the_pictures_alone(
    copied: Callable[..., Path], tmp_path: Path
):
    folder = copied("ae-0", "beta-0")
    path = folder / "ae-0" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {name: value.sign() * 3e38 for name, value in content["state_dict"].items()}
    torch.save(content, path)
    build([folder], tmp_path / "out", pdf=False)
    seen = text_of((tmp_path / "out" / "report.html").read_text())
    assert "AE is missing from the pictures: codes are not finite" in seen


def test_what_is_left_out_is_named_on_the_page_and_on_the_terminal(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(runs / "ae-0"), str(tmp_path / "none"), f"out={tmp_path / 'out'}", "pdf=false"]) == 0
    assert "none is not a run folder" in capsys.readouterr().err
    assert "none is not a run folder" in (tmp_path / "out" / "report.html").read_text()


def test_nothing_to_compare_is_one_sentence_and_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path), f"out={tmp_path / 'out'}"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: there is no finished run to compare")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "RUN"),
        (["run"], "RUN"),
        (["out=x"], "RUN"),
        (["run", "out="], "out must be a path, got ''"),
        (["run", "out=x", "seed=1"], r"compare\.seed is not a setting here; known names: .*\bout\b"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_refused(arguments: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        parse(arguments)


def test_a_folder_whose_name_holds_an_equals_sign_is_a_folder(tmp_path: Path):
    (tmp_path / "beta=4").mkdir()
    assert parse([str(tmp_path / "beta=4"), "out=x"]).paths == [str(tmp_path / "beta=4")]


@pytest.mark.nightly
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


def test_runs_of_before_images_had_a_fit_and_a_range_are_compared(copied: Callable[..., Path], tmp_path: Path):
    run = copied("ae-0") / "ae-0"
    for name in ("summary.json", "config.yaml"):
        lines = (run / name).read_text().splitlines()
        kept = [line for line in lines if not line.strip().strip('"').startswith(("fit", "range"))]
        (run / name).write_text("\n".join(kept) + "\n")
    assert "fit" not in json.loads((run / "summary.json").read_text())["data"]
    build([run], tmp_path / "out", pdf=False)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_legend_names_only_what_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "panel", lambda figure, name, alt, out, key: [artist.get_label() for artist in key])
    line = (np.array([1.0, 2.0]), np.array([3.0, 2.0]))
    runs = [(0, "without", charts.Curves()), (1, "with", charts.Curves({("val", "-elbo"): line}, None))]
    assert charts.curves(runs, "-elbo", "t", "n", tmp_path, by_clock=False) == ["with", "validation", "training"]
    groups = [
        SeedGroup("without", {}, [record(0, parameters=9)]),
        SeedGroup("with", {}, [record(0, parameters=9, elbo=1)]),
    ]
    assert charts.cost(groups, [0, 1], "parameters", "elbo", "n", tmp_path) == ["with"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_report_leads_to_the_explorer_or_says_why_there_is_none(
    fails: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explore(named: Mapping[str, Path], page: Path) -> list[str]:
        assert list(named.values()) == [runs / "plane-0"]
        assert page == tmp_path / "explorer.html"
        if fails:
            raise RunError("there is no model for a page")
        return ["another, because it is too large"]

    monkeypatch.setattr(sys.modules[build.__module__], "_makers", lambda *_: {})  # draws nothing
    build([runs / "plane-0"], tmp_path, pdf=False, explore=explore)
    page, markdown = ((tmp_path / f"report.{end}").read_text() for end in ("html", "md"))
    for text, link in ((page, '<a href="explorer.html">'), (markdown, "[Latent explorer](explorer.html)")):
        assert (link in text) == (not fails)
        sentence = (
            "no latent explorer: there is no" if fails else "explorer leaves out another, because it is too large."
        )
        assert sentence in text


def test_up_to_144_models_have_marks_of_their_own() -> None:
    looks = {(drawing.colour(index), drawing.marker(index), drawing.glyph(index)) for index in range(144)}
    assert len(looks) == 144
    assert len({look[:2] for look in looks}) == 144


def test_the_first_screen_says_what_was_compared_what_leads_and_how_sure_that_is(report: Path) -> None:
    page = (report / "report.html").read_text()
    said = re.search(r'<div class="said">(.*?)</div>', page, re.DOTALL)
    assert said is not None
    compared, leads, sure = re.findall(r"<p>(.*?)</p>", said[1])
    assert compared.startswith("3 models on digits, 1×16×16: 5 runs, 1 to 2 seeds of each, after ")
    assert re.search(r"bound on the likelihood: (VAE|BetaVAE)", leads)
    assert "samples (FD): " in leads
    assert sure.startswith("The runs differ in ") or "one seed cannot be tested" in sure
    assert '<div class="panel"><svg' in page[said.end() : said.end() + 200]


def test_what_concerns_a_few_numbers_is_minded_and_does_not_forbid_to_compare() -> None:
    models = Group("digits", [seed_group("VAE", [-90.0, -91.0]), seed_group("AE", [-95.0, -96.0])])
    of_few = Finding("sample sizes", "invalid", "", unranked=frozenset({"factor_vae_score"}))
    assert summary.sentences(models, [of_few])[-1].endswith("may be chance. Mind sample sizes, see Fairness.")
    of_all = Finding("test images", "invalid", "", unranked=fairness.EVERYTHING)
    assert summary.sentences(models, [of_all, of_few])[-1].startswith(
        "The runs differ in test images, so these numbers"
    )
    assert summary.sentences(models, [Finding("network", "invalid", "")])[-1].startswith("The runs differ in network,")


def test_many_names_in_a_sentence_are_counted() -> None:
    from vaezoo.comparison.statistics import _and

    assert _and(list("abc")) == "a, b and c"
    assert _and(list("abcdefghi")) == "a, b, c, d, e and 4 others"
