"""The page in a real browser: it asks for nothing, draws everything, sorts and folds, on every screen."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCREENS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
Open = Callable[..., Any]


@pytest.fixture
def opened(chromium: Any, report: Path) -> Iterator[Open]:
    """The report on a screen of some width, and what it asked for and complained of."""
    pages = []

    def open_page(width: int = 1280, scheme: str = "light") -> Any:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto((report / "report.html").as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_it_asks_for_nothing_and_complains_of_nothing(opened: Open, width: int, scheme: str):
    page = opened(width, scheme)
    outside = [address for address in page.asked if not address.startswith(("file://", "data:"))]
    assert outside == []
    assert len([address for address in page.asked if address.startswith("file://")]) == 1
    assert page.said == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_every_figure_is_drawn_and_the_page_is_no_wider_than_the_screen(opened: Open, width: int, scheme: str):
    page = opened(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    pictures = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.width])")
    charts = page.evaluate(
        "[...document.querySelectorAll('.panel svg')].map((chart) => { const box = chart.getBoundingClientRect();"
        " return [box.width, box.height, box.right, chart.querySelectorAll('path, use').length]; })"
    )
    assert len(pictures) > 40
    assert min(min(sizes) for sizes in pictures) > 0
    assert len(charts) > 10
    assert all(shown > 200 and height > 100 and right <= width and marks > 5 for shown, height, right, marks in charts)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_ink_and_page_follow_the_readers_scheme(opened: Open):
    def luminances(scheme: str) -> tuple[float, float]:
        page = opened(1280, scheme)
        script = "(name) => getComputedStyle(document.querySelector(name)).{}"
        texts = [
            page.evaluate(script.format("fill"), ".panel svg text"),
            page.evaluate(script.format("backgroundColor"), "html"),
        ]
        values = [[int(part) for part in text[text.index("(") + 1 : -1].split(",")[:3]] for text in texts]
        return sum(values[0]), sum(values[1])

    ink, ground = luminances("light")
    assert ink + 300 < ground
    ink, ground = luminances("dark")
    assert ink > ground + 300


def test_a_click_on_a_head_sorts_and_another_turns_it_round(opened: Open):
    page = opened()
    table = page.locator("table.sortable").first
    head = table.locator("th", has_text="PSNR")
    column = head.evaluate("(cell) => cell.cellIndex")

    def values() -> list[float]:
        script = f"(table) => [...table.tBodies[0].rows].map((row) => Number(row.cells[{column}].dataset.value))"
        return table.evaluate(script)

    before = values()
    head.locator("button").click()
    assert values() == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert values() == sorted(before)


def test_cells_without_a_number_stay_last_whichever_way_it_sorts(opened: Open):
    page = opened()
    table = page.locator("table.sortable").first
    head = table.locator("th", has_text="ELBO")
    for _ in range(2):
        head.locator("button").click()
        rows = table.locator("tbody tr th").all_inner_texts()
        assert rows[-1].startswith("AE")


def test_groups_of_metrics_fold_and_unfold(opened: Open):
    page = opened(390)
    group = page.locator("details.metrics").nth(1)
    assert group.locator("table").is_visible()
    group.locator("summary").first.click()
    assert not group.locator("table").is_visible()
    group.locator("summary").first.click()
    assert group.locator("table").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_table_of_contents_stays_and_shows_the_chapter_that_is_read(opened: Open, width: int):
    page = opened(width)
    box = "document.querySelector('.bar').getBoundingClientRect()"
    for chapter in ("Samples", "Training"):
        page.locator("nav a", has_text=chapter).click()
        page.wait_for_timeout(100)
        head = page.locator("h2", has_text=chapter).bounding_box()
        assert page.evaluate(f"{box}.top") == 0
        assert page.evaluate(f"{box}.height") < 130
        assert head["y"] >= page.evaluate(f"{box}.bottom") - 1  # and does not hide what was asked for
        assert head["y"] < 200
        assert page.locator("nav a[aria-current]").all_inner_texts() == [chapter]


@pytest.mark.parametrize("width", [390, 1280])
def test_an_arrow_stands_on_the_line_of_the_word_before_it(opened: Open, width: int):
    page = opened(width)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    heights = page.evaluate(
        """() => {
          const heads = [...document.querySelectorAll("thead button")].filter((head) => /[↑↓]$/.test(head.textContent));
          const top = (text, at) => {
            const range = document.createRange();
            range.setStart(text, at);
            range.setEnd(text, at + 1);
            return range.getBoundingClientRect().top;
          };
          const ends = (text) => [top(text, text.data.length - 3), top(text, text.data.length - 1)];
          return heads.map((head) => ends(head.firstChild));
        }"""
    )
    assert len(heights) > 10
    assert all(word == pytest.approx(arrow, abs=3) for word, arrow in heights)


def test_every_number_says_what_it_is(opened: Open):
    page = opened()
    tips = page.evaluate("[...document.querySelectorAll('table.sortable thead th')].slice(1).map((head) => head.title)")
    texts = [tip for tip in tips if tip]
    assert len(texts) > 10
    assert any("PSNR" in tip or "signal-to-noise" in tip for tip in texts)


@pytest.fixture(scope="module")
def of_many(chromium: Any, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The report in the form that it has with many models."""
    from vaezoo.comparison.report import build, drawing, part, strips

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part, "MANY", 1)
        for module in (drawing, strips):
            patch.setattr(module, "PRINT_DPI", 60)
        out = tmp_path_factory.mktemp("of_many")
        assert not build([runs], out, pdf=False)
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.said = []
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto((out / "report.html").as_uri())
    page.source = (out / "report.html").read_text()
    yield page
    page.close()


@pytest.mark.nightly
def test_a_report_of_thirty_models_and_ninety_runs_stays_small_and_opens_at_once(
    chromium: Any, runs: Path, tmp_path: Path
):
    """Runs that differ in batch size and seed only by what they say."""
    from vaezoo.comparison.report import build

    for size in range(1, 31):
        for seed in range(3):
            folder = tmp_path / "runs" / f"{size}-{seed}"
            shutil.copytree(runs / "beta-0", folder)
            config = folder / "config.yaml"
            text = re.sub(r"batch_size: \d+", f"batch_size: {size}", config.read_text())
            config.write_text(re.sub(r"^seed: 0$", f"seed: {seed}", text, flags=re.MULTILINE))
            summary = json.loads((folder / "summary.json").read_text())
            (folder / "summary.json").write_text(json.dumps({**summary, "seed": seed}))
    assert not build([tmp_path / "runs"], tmp_path / "report", pdf=False)
    page_file = tmp_path / "report" / "report.html"
    assert page_file.stat().st_size < 25e6
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(page_file.as_uri())
    [seconds] = page.evaluate("performance.getEntriesByType('navigation').map((entry) => entry.loadEventEnd / 1000)")
    rows = shown_rows(page)
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert len(rows) == 30
    assert wide <= 1280
    assert 0 < seconds < 2


def shown_rows(page: Any) -> list[str]:
    rows = page.locator("table.sortable").first.locator("tbody tr:visible th").all_inner_texts()
    return sorted(text.split("\n")[0] for text in rows)


def test_a_filter_hides_models_in_tables_charts_and_pictures(of_many: Any):
    of_many.locator(".choose > summary").click()
    everything = shown_rows(of_many)
    assert len(everything) == 3
    of_many.fill(".filter", "kl 4")  # of the objective recon + 4 kl
    assert shown_rows(of_many) == ["BetaVAE beta=4"]
    index = of_many.locator(".model:visible").first.get_attribute("data-pick")
    hidden = of_many.locator(f"svg .s:not(.s{index})").first
    assert hidden.evaluate("(mark) => getComputedStyle(mark).display") == "none"
    of_many.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert of_many.locator(".strip[data-model]:visible").count() > 3
    assert of_many.locator(f".strip[data-model]:not([data-model='{index}']):visible").count() == 0
    of_many.locator(".all").click()
    assert shown_rows(of_many) == everything
    assert of_many.said == []


def test_a_family_is_hidden_and_shown_as_a_whole(of_many: Any):
    of_many.evaluate("document.querySelectorAll('.choose, .family').forEach((each) => { each.open = true; })")
    box = of_many.locator(".family", has_text="points").locator("[data-family]")
    box.uncheck()
    assert shown_rows(of_many) == ["BetaVAE beta=4", "VAE"]
    box.check()
    assert len(shown_rows(of_many)) == 3


def test_a_click_on_a_name_fades_the_others_until_the_next(of_many: Any):
    of_many.evaluate("document.querySelectorAll('.choose, .family').forEach((each) => { each.open = true; })")
    name = of_many.locator(".model").nth(1)
    index = name.get_attribute("data-pick")
    other = of_many.locator(f"svg .s:not(.s{index})").first
    opacity = "(mark) => Number(getComputedStyle(mark).opacity)"
    name.locator("b").click()
    of_many.mouse.move(0, 0)
    assert other.evaluate(opacity) < 0.2
    assert of_many.locator(f"svg .s.s{index}").first.evaluate(opacity) == 1
    name.locator("b").click()
    of_many.mouse.move(0, 0)
    assert other.evaluate(opacity) == 1


def test_a_mark_has_its_numbers_beside_the_pointer(opened: Open):
    page = opened()
    mark = page.locator(".first svg [data-tip*='seed 1'] use").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    said = page.locator(".tip").inner_text()
    assert said.startswith("BetaVAE beta=4, seed 1: KL ")
    assert ", recon " in said
    page.mouse.move(2, 2)
    assert page.locator(".tip").is_hidden()


def test_heads_stay_while_a_long_table_is_scrolled(of_many: Any):
    head = of_many.locator("table.sortable thead th").first
    assert head.evaluate("(cell) => getComputedStyle(cell).position") == "sticky"
    assert of_many.evaluate("document.documentElement.scrollWidth") <= 1280


def test_rows_of_images_of_many_models_are_folded_by_family(of_many: Any):
    assert of_many.locator("details.of-family > summary").first.text_content() == "points"
    assert of_many.source.count('<details class="of-family">') > 0  # but for the first of each figure
    of_each = of_many.locator("details.of-family .strip:not([data-model])").count()
    assert of_each >= of_many.locator("details.of-family").count() / 2  # originals are above each family's rows
