"""``vaezoo list``: prints the names that settings accept."""

from collections.abc import Sequence
from functools import partial

from vaezoo.config import arguments
from vaezoo.config.choices import (
    BOUNDS,
    CORRUPTIONS,
    DISCRIMINATORS,
    LIKELIHOODS,
    NETWORKS,
    PENALTIES,
    PERCEPTUAL,
    POSTERIORS,
    PRIORS,
    QUANTIZERS,
)
from vaezoo.config.errors import ConfigError
from vaezoo.runs import user_code

USAGE = """usage: vaezoo list [models [format=markdown]] [--config-dir=FOLDER] [packages=[NAME]]

List every option, those of your own folder of configs among them; with `models`, what each model is, its paper and what
it needs.
"""


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_list, words), needs_words=False)


def _list(words: Sequence[str]) -> int:
    added, rest = user_code.parse(words)
    if rest[:1] == ["models"]:
        return _list_models(added, rest[1:])
    if rest:
        raise ConfigError(f"vaezoo list takes only models, --config-dir=FOLDER and packages=[NAME], got {rest[0]}")
    print("model=              ", *added.options("model"))
    print("data=               ", *added.options("data"))
    print("model.network=      ", *NETWORKS)
    print("model.likelihood=   ", "auto", *LIKELIHOODS)
    print("model.corruption=   ", "null", *CORRUPTIONS)
    print("model.perceptual=   ", "null", *PERCEPTUAL)
    print("model.discriminator=", "null", *DISCRIMINATORS)
    print("model.posterior=    ", *POSTERIORS)
    print("model.prior=        ", *PRIORS)
    print("model.bound=        ", *BOUNDS)
    print("model.penalty=      ", "null", *PENALTIES)
    print("model.quantizer=    ", *QUANTIZERS)
    for group in ("trainer", "callbacks", "logger", "experiment", "sweep"):
        print(f"{group + '=':20s}", *added.options(group))
    return 0


def _list_models(added: user_code.UserCode, rest: Sequence[str]) -> int:
    from vaezoo.commands import model_table  # imports torch

    if rest not in ([], ["format=markdown"]):
        raise ConfigError(f"vaezoo list models takes only format=markdown, got {rest[0]}")
    table = model_table.rows(added)
    if rest:
        print(model_table.markdown(table), end="")
    else:
        model_table.show(table)
    return 0
