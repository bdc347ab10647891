"""``vaezoo explore RUN... out=FILE.html``: writes a page on which models run in the browser."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vaezoo.config import arguments
from vaezoo.config.arguments import KEY
from vaezoo.config.errors import ConfigError, printable
from vaezoo.distributed import interrupts
from vaezoo.runs import paths
from vaezoo.runs.trust import OWN, allowed_packages

USAGE = """usage: vaezoo explore RUN... out=FILE.html [KEY=VALUE...]

Write one HTML file that runs the encoders and decoders of up to eight models side by side in the browser: maps of their
latent spaces that decode under the pointer, a slider for each dimension, walks between images, and a guided tour. The
file needs no server and makes no request. All models must be trained on the same images.

  RUN...              run folders, or folders that contain them, such as a benchmark's
  out=FILE.html       the page, about 5 MB and the size of the weights
  checkpoint=best     or last
  packages=[NAME]     your own packages whose models may be created
  data.root=PATH      where the images are on this machine, if they have moved since training
"""


@dataclass(frozen=True)
class Options:
    """Options of the command, as typed."""

    out: str
    checkpoint: Literal["best", "last"]
    packages: Any
    root: str | None = field(metadata={KEY: "data.root"})


@dataclass(frozen=True)
class Request:
    """The parsed command line."""

    runs: list[Path]
    out: Path
    packages: Sequence[str] = OWN
    checkpoint: str | None = None
    root: str | None = None


def main(words: list[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_explore, words))


def read(words: Sequence[str]) -> Request:
    """Parse the command line; ConfigError for invalid arguments."""
    folders, settings = arguments.split(words)
    (given,) = arguments.read(settings, Options, prefix="explore.")
    if not folders or "out" not in given:
        raise ConfigError("vaezoo explore needs run folders and out=FILE.html")
    out = paths.file(given.pop("out"), "out")
    if out.suffix not in (".html", ".htm"):
        raise ConfigError(f"out must be the name of an HTML file, such as {out}.html, got {out}")
    return Request(list(map(Path, folders)), out, allowed_packages(given.pop("packages", None)), **given)


def _explore(words: Sequence[str]) -> int:
    request = read(words)
    from vaezoo.commands import console
    from vaezoo.explorer import write_page
    from vaezoo.training.quiet import quieten

    quieten()
    runs = named(request.runs)
    with interrupts.cleaning_up(), console.progress("exporting", len(runs)) as report:
        left_out = write_page(
            runs,
            request.out,
            report=report,
            packages=request.packages,
            checkpoint=request.checkpoint,
            root=request.root,
        )
    for sentence in left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    print(printable(f"explorer  {request.out} ({request.out.stat().st_size / 1e6:.1f} MB); open it in a browser"))
    return 0


def named(folders: Sequence[Path]) -> dict[str, Path]:
    """Runs by the names of their folders, with as many parents as tell them apart."""
    runs = [path for folder in folders for path in paths.runs_in(folder)]
    unique = list({path.resolve(): path for path in runs}.values())
    parts = {path: path.resolve().parts for path in unique}
    depth = 1
    while len({own[-depth:] for own in parts.values()}) < len(unique):
        depth += 1
    return {printable("/".join(own[-depth:])): path for path, own in parts.items()}
