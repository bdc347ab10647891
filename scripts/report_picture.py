"""A screenshot of a report for the README: python scripts/report_picture.py OUT/report.html docs/report.png.

It requires Chromium, which runs headless: apt-get install chromium.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1180
PARTS = {"": 1290, "g1-latent-maps": 672}
"""Chapters that are shown, one below the other, and how many pixels of each; the first is the page's beginning."""
ONLY = """<script>
const head = document.getElementById("{anchor}");
while (head.previousElementSibling) head.previousElementSibling.remove();
document.querySelector("header").remove();
</script>"""
"""Takes what stands before a chapter off the page, since a browser without a window does not scroll."""
MOST_BYTES = 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="report.html of vaezoo compare or vaezoo benchmark")
    parser.add_argument("out", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    if not arguments.report.is_file():
        sys.exit(
            f"error: {arguments.report} does not exist; vaezoo benchmark experiment=smoke out=DIR writes DIR/report"
        )
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"error: a screenshot needs one of {', '.join(BROWSERS)}, and none is installed; install chromium")
    page = arguments.report.read_text(encoding="utf-8")
    parts = [
        photograph(browser, page + ONLY.replace("{anchor}", anchor) * bool(anchor), PARTS[anchor]) for anchor in PARTS
    ]
    picture = Image.fromarray(np.concatenate([np.asarray(part) for part in parts]))
    picture.save(arguments.out, optimize=True)
    if arguments.out.stat().st_size > MOST_BYTES:  # fewer colours, at the price of slightly other ones
        picture.quantize(256, kmeans=1).save(arguments.out, optimize=True)
    if (size := arguments.out.stat().st_size) > MOST_BYTES:
        sys.exit(
            f"error: {arguments.out} has {size:,} bytes, but at most {MOST_BYTES:,} are allowed; show less of the page"
        )


def photograph(browser: str, page: str, height: int) -> Image.Image:
    """So many pixels of a page as a browser shows it."""
    with tempfile.TemporaryDirectory() as folder:
        path, source = Path(folder, "page.png"), Path(folder, "page.html")
        source.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{height}"]
        command = [browser, *options, f"--user-data-dir={folder}/profile", f"--screenshot={path}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(path) as picture:
            return picture.convert("RGB")


if __name__ == "__main__":
    main()
