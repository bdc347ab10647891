"""``vaezoo check model=NAME``: checks a model against the contract."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vaezoo.config import arguments, automatic, hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.runs import user_code

if TYPE_CHECKING:
    from vaezoo.commands.check.clauses import Make

CLASSES = 3
"""Number of labels of models that take them from the data."""

USAGE = """usage: vaezoo check model=NAME [--config-dir=FOLDER] [packages=[NAME]] [model.KEY=VALUE...]

Check a model on random images against the contract that every model of the zoo satisfies, clause by clause. The exit
code is 0 if it satisfies all of them.

  --config-dir=FOLDER   a folder of your own with model/NAME.yaml in it
  packages=[NAME]       packages that must be importable for it
"""


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    return arguments.run(words, USAGE, partial(_check, words))


def _check(words: Sequence[str]) -> int:
    make = read(words)
    make()
    return check(make)


def read(words: Sequence[str]) -> "Make":
    """A function that creates the model of the command line; ConfigError for invalid arguments."""
    added, words = user_code.parse(words)
    if sum(word.startswith("model=") for word in words) != 1:
        raise ConfigError(f"vaezoo check needs one model=NAME, got {' '.join(words) or 'none'}")
    if other := [word for word in words if not word.lstrip("+~").startswith(("model=", "model."))]:
        raise ConfigError(f"vaezoo check takes only settings of model., got {other[0]}; see vaezoo check --help")

    def make(*overrides: str, image_shape: list[int] | None = None) -> Any:
        from hydra import compose

        from vaezoo.commands.assembly import made_model

        with user_code.composing(added.config_dir):
            cfg = compose("train", overrides=[*words, *overrides, "run_dir=none"])
        hydra_config.check(cfg)
        automatic.resolve(cfg)
        return made_model(cfg.model, image_shape or [1, 16, 16], classes=CLASSES)

    return make


def check(make: "Make") -> int:
    """Print each clause with its result; returns 1 if any is violated, else 0."""
    import torch

    from vaezoo.commands.check.clauses import CLAUSES

    failed = 0
    for clause in CLAUSES:
        torch.manual_seed(0)
        wrong = violation(clause, make)
        said = str(clause.__doc__).partition("\n\n")[0].replace("``", "")
        print(f"{'ok   ' if wrong is None else 'fails'} {said}", flush=True)
        if wrong is not None:
            failed += 1
            print(f"      {wrong}", flush=True)
    print(f"{len(CLAUSES) - failed} of {len(CLAUSES)} clauses are satisfied")
    return 1 if failed else 0


def violation(clause: Callable[["Make"], None], make: "Make") -> str | None:
    """A sentence on how a model violates a clause, or None."""
    try:
        clause(make)
    except Exception as error:  # a user's model may raise anything
        if sentence := hydra_config.explain(error):
            return sentence
        return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return None
