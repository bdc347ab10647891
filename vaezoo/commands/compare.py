"""``vaezoo compare RUN... out=DIR``: writes a comparison report."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError
from vaezoo.runs import user_code
from vaezoo.runs.paths import folder

USAGE = "vaezoo compare RUN... out=DIR [pdf=false] [explore=true] [packages=[NAME]] [--config-dir=FOLDER]"
HELP = f"""usage: {USAGE}

Put runs side by side on one page, with tables, charts and pictures, from what their folders record.

  RUN...              run folders, or folders that contain them, such as a benchmark's
  out=DIR             where report.html, report.md, table.csv, table.tex and figures/ are written
  pdf=true            each figure as PDF besides PNG; false takes half the time
  explore=true        also explorer.html, on which the models run in the browser (see vaezoo explore)
  packages=[NAME]     your own packages whose models may be created
  --config-dir=FOLDER accepted for consistency with the other commands; runs keep their own configs, so it is not read
"""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    out: str
    pdf: bool = True
    explore: bool = False


@dataclass(frozen=True)
class Request:
    """The parsed command line."""

    paths: list[str]
    out: Path
    packages: tuple[str, ...]
    pdf: bool
    explore: bool


def main(words: list[str]) -> int:
    """Compare the runs that the command line names; returns the exit code."""
    return arguments.run(words, HELP, partial(_compare, words))


def _compare(words: Sequence[str]) -> int:
    request = parse(words)
    from vaezoo.comparison.report import build

    explore = _explorer(request.packages) if request.explore else None
    for refusal in build(request.paths, request.out, request.packages, pdf=request.pdf, explore=explore):
        print(f"left out: {refusal.reason}", file=sys.stderr)
    print(f"report  {request.out / 'report.html'}")
    return 0


def _explorer(packages: Sequence[str]) -> Callable[[Mapping[str, Path], Path], list[str]]:
    from vaezoo.explorer import write_page

    return partial(write_page, packages=packages)


def parse(words: Sequence[str]) -> Request:
    """Parse the command line; ConfigError for invalid arguments.

    --config-dir is accepted for consistency with other commands, but not used: runs have their own configs.
    """
    added, words = user_code.parse(words)
    paths, settings = arguments.split(words)
    (given,) = arguments.read(settings, Options, prefix="compare.")
    if not paths or "out" not in given:
        raise ConfigError(f"compare needs run folders and one out=DIR, got {' '.join(words) or 'nothing'}: {USAGE}")
    given["out"] = folder(given["out"], "out")
    return Request(paths, packages=added.packages, **{"pdf": True, "explore": False, **given})
