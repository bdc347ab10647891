"""Command-line options that the scripts share."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from vaezoo.config.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Mistakes in one sentence, as vaezoo has them."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where to train, and on what."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads", type=int, help="number of torch threads in each process; by default torch chooses it"
    )
    parser.add_argument("--data-root", type=Path, default=Path(os.environ.get("VAEZOO_DATA", "data")))


def check_whole(asked: argparse.Namespace, *names: str) -> None:
    """ConfigError for a count below 1."""
    for name in names:
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
