"""``vaezoo list``: prints the names that settings accept."""

from collections.abc import Sequence
from functools import partial

from vaezoo.config import arguments
from vaezoo.config.choices import (
    BOUNDS,
    CORRUPTIONS,
    LIKELIHOODS,
    NETWORKS,
    PENALTIES,
    POSTERIORS,
    PRIORS,
    QUANTIZERS,
)
from vaezoo.config.errors import ConfigError
from vaezoo.runs import user_code

USAGE = """usage: vaezoo list [--config-dir=FOLDER] [packages=[NAME]]

List every option, those of your own folder of configs among them.
"""


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_list, words), needs_words=False)


def _list(words: Sequence[str]) -> int:
    added, rest = user_code.parse(words)
    if rest:
        raise ConfigError(f"vaezoo list takes only --config-dir=FOLDER and packages=[NAME], got {rest[0]}")
    print("model=            ", *added.options("model"))
    print("data=             ", *added.options("data"))
    print("model.network=    ", *NETWORKS)
    print("model.likelihood= ", "auto", *LIKELIHOODS)
    print("model.corruption= ", "null", *CORRUPTIONS)
    print("model.posterior=  ", *POSTERIORS)
    print("model.prior=      ", *PRIORS)
    print("model.bound=      ", *BOUNDS)
    print("model.penalty=    ", "null", *PENALTIES)
    print("model.quantizer=  ", *QUANTIZERS)
    for group in ("trainer", "callbacks", "logger", "experiment", "sweep"):
        print(f"{group + '=':18s}", *added.options(group))
    return 0
