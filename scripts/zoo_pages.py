"""The pages of the zoo: python scripts/zoo_pages.py train [MODEL...] --out DIR, then write [MODEL...] --out DIR.

``train`` trains a small run of each model on the digits, one after another; it can be stopped and resumed. ``write``
reads their results and writes docs/zoo/zoo.json, the pictures and all pages; without --out it writes the pages again
from what is stored and from the code.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vaezoo.config.errors import ConfigError, VaezooError
from vaezoo.config.hydra_config import options as presets
from zoo import pages, runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "write"))
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of configs/model; all by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the runs")
    options = parser.parse_args(arguments)
    try:
        names = choose(options.models)
        if options.verb == "train":
            if options.out is None:
                raise ConfigError("train needs --out DIR, a folder for the runs")
            return runs.train(names, options.out)
        if options.out is not None:
            runs.store(names, options.out)
        pages.write()
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def choose(names: Sequence[str]) -> list[str]:
    """The models with these names, or all of the zoo; ConfigError for an unknown one."""
    known = presets("model")
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"there is no model {unknown[0]!r}; choose from {', '.join(known)}")
    return list(names or known)


if __name__ == "__main__":
    sys.exit(main())
