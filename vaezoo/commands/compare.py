"""``vaezoo compare RUN... out=DIR``: writes a comparison report."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from vaezoo.config.errors import ConfigError, VaezooError
from vaezoo.runs import user_code
from vaezoo.runs.paths import folder

USAGE = "vaezoo compare RUN... out=DIR [packages=[NAME]] [--config-dir=FOLDER]"
HELP = f"""usage: {USAGE}

Put runs side by side on one page, with tables, charts and pictures, from what their folders record.

  RUN...              run folders, or folders that contain them, such as a benchmark's
  out=DIR             where report.html, report.md, table.csv, table.tex and figures/ are written
  packages=[NAME]     your own packages whose models may be created
  --config-dir=FOLDER accepted for consistency with the other commands; runs keep their own configs, so it is not read
"""


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    try:
        paths, out, packages = parse(arguments)
        from vaezoo.comparison.report import build

        refused = build(paths, out, packages)
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for refusal in refused:
        print(f"left out: {refusal.reason}", file=sys.stderr)
    print(f"report  {out / 'report.html'}")
    return 0


def parse(arguments: Sequence[str]) -> tuple[list[str], Path, tuple[str, ...]]:
    """Run folders, the report's folder and the user's packages; ConfigError for anything else.

    --config-dir is accepted for consistency with other commands, but not used: runs have their own configs.
    """
    added, arguments = user_code.parse(arguments)
    settings = [argument for argument in arguments if argument.startswith("out=")]
    unknown = [a for a in arguments if "=" in a and a not in settings and not os.path.exists(a)]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a setting here; write {USAGE}")
    paths = [argument for argument in arguments if argument not in settings]
    if not paths or len(settings) != 1:
        raise ConfigError(f"compare needs run folders and one out=DIR, got {' '.join(arguments) or 'nothing'}: {USAGE}")
    return paths, folder(settings[0].removeprefix("out="), "out"), added.packages
