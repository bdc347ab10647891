"""A screenshot of a page for the documentation: python scripts/page_picture.py OUT/report.html docs/report.png.

Of a report it shows the beginning and the latent maps, of other pages, such as the explorer's, the first ``--height``
pixels. It prints the size of the page, and how long it took to open. It needs Chromium (apt-get install chromium) and
playwright, which the extra ``dev`` installs.
"""

import argparse
import shutil
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1180
MAPS = "#g1-latent-maps"
BEGINNING, MAPS_HEIGHT = 1290, 672
"""Pixels of the beginning and of the latent maps of a report, one below the other."""
ONLY = """(head) => {
  while (head.previousElementSibling) head.previousElementSibling.remove();
  document.querySelector("header").remove();
}"""
"""Takes what stands before a chapter off the page, which draws only what is on the screen."""
MILLISECONDS = 500
"""For what is drawn once it is on the screen."""
READY = "html[data-state]"
"""Matches the explorer's page once its models are ready."""
MANY_BYTES, MOST_BYTES = 150_000, 300_000
"""Sizes beyond which a picture has fewer colours, and beyond which it is refused."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="page of vaezoo compare, vaezoo benchmark or vaezoo explore")
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--height", type=int, default=775, help="pixels of a page that is no report (775)")
    arguments = parser.parse_args()
    if not arguments.page.is_file():
        sys.exit(f"error: {arguments.page} does not exist; vaezoo benchmark experiment=smoke out=DIR writes DIR/report")
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: a screenshot needs one of {', '.join(BROWSERS)}, and none is installed; install chromium")
    picture = photograph(browser, arguments.page, arguments.height)
    picture.save(arguments.out, optimize=True)
    for colours in (256, 64):  # the fewer, the smaller, at the price of slightly other ones
        if arguments.out.stat().st_size > MANY_BYTES:
            picture.quantize(colours, kmeans=1).save(arguments.out, optimize=True)
    if (size := arguments.out.stat().st_size) > MOST_BYTES:
        sys.exit(
            f"error: {arguments.out} has {size:,} bytes, but at most {MOST_BYTES:,} are allowed; show less of the page"
        )


def photograph(browser: str, path: Path, height: int) -> Image.Image:
    """The parts of a page that a picture shows, as a browser draws them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": height})
        started = time.perf_counter()
        page.goto(path.resolve().as_uri())
        if page.locator("#state").count():
            page.wait_for_selector(READY, state="attached", timeout=60_000)
        seconds = time.perf_counter() - started
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, ready after {seconds:.1f} s")
        parts = [top_of(page, BEGINNING if page.locator(MAPS).count() else height)]
        if page.locator(MAPS).count():
            page.locator(MAPS).evaluate(ONLY)
            parts.append(top_of(page, MAPS_HEIGHT))
        opened.close()
    return Image.fromarray(np.concatenate(parts))


def top_of(page: Any, height: int) -> np.ndarray:
    """The first pixels of a page: (height, WIDTH, 3) uint8."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.wait_for_timeout(MILLISECONDS)
    return np.asarray(Image.open(BytesIO(page.screenshot())).convert("RGB"))


if __name__ == "__main__":
    main()
