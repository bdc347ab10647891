"""The documentation as a site: no warnings, links that lead somewhere, and pages that fit every screen."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import vaezoo
from tests.documents import ROOT

SCREENS = ((390, "dark"), (1280, "light"))
EXPLORER = "the-explorer.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, with a page in place of the explorer's."""
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "latex2mathml"):
        pytest.importorskip(package, reason='needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    explorer = tmp_path_factory.mktemp("explorer") / EXPLORER
    explorer.write_text("<!doctype html><html lang='en'><title>Explorer</title></html>")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(folder)]
    environment = {**os.environ, "VAEZOO_EXPLORER": str(explorer)}
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> list[Path]:
    """All pages of the site."""
    return sorted(site.rglob("*.html"))


def test_the_lesson_has_the_explorer_in_it(site: Path) -> None:
    assert f'<iframe class="explorer" src="{EXPLORER}"' in (site / "learn.html").read_text()
    assert "<title>Explorer</title>" in (site / EXPLORER).read_text()


def test_everything_that_the_package_offers_is_described(site: Path) -> None:
    api = (site / "api.html").read_text()
    assert [name for name in vaezoo.__all__ if f'id="vaezoo.{name}"' not in api] == ["__version__"]


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    texts = {path: path.read_text() for path in pages(site)}
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    broken, count = [], 0
    for path, text in texts.items():
        for link in re.findall(r'<a [^>]*?href="([^"]+)"', text):
            if re.match(r"\w+:", link):
                continue
            count += 1
            name, _, anchor = unescape(link).partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            if not target.is_file() or (anchor and unquote(anchor) not in anchors.get(target, {anchor})):
                broken.append((path.name, link))
    assert count > 1_000
    assert broken == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_every_page_fits_the_screen_asks_for_nothing_and_complains_of_nothing(
    chromium: Any, site: Path, width: int, scheme: str
) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    wide, undrawn = [], []
    for path in pages(site):
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(path.name)
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        if not page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)"):
            undrawn.append(path.name)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    assert wide == []
    assert undrawn == []
    assert said == []
    assert [address for address in asked if not address.startswith(("file://", "data:"))] == []
    levels = [int(level) for level in re.findall(r"\d+", ground)[:3]]
    assert sum(levels) < 200 if scheme == "dark" else sum(levels) > 600
