"""Command-line arguments of all commands: help, exit codes, and ``KEY=VALUE`` words read into dataclass fields."""

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_type, did_you_mean

KEY = "key"
"""Metadata of a field: its name on the command line if that is not a Python name, such as ``data.root``."""


def run(words: Sequence[str], usage: str, program: Callable[[], int], *, needs_words: bool = True) -> int:
    """Run a command; returns the exit code, which is 1 after a user error, printed as one sentence.

    With ``--help``, ``usage`` is printed instead; likewise without any words, with exit code 2, if the command needs
    some.
    """
    if {"-h", "--help"} & set(words) or (needs_words and not words):
        print(usage, end="")
        return 0 if words else 2
    try:
        return program()
    except Exception as error:
        return hydra_config.refuse(error)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths and settings. A word is a path if a folder of that name exists, even if it contains ``=``."""
    paths = [word for word in words if "=" not in word or os.path.isdir(word)]
    return paths, [word for word in words if word not in paths]


def read(settings: Sequence[str], *schemas: type, prefix: str = "") -> list[dict[str, Any]]:
    """The values that settings give to the fields of each dataclass, by field name.

    The last of several values counts. Text is taken as typed, other values are parsed as YAML. ConfigError, in which
    ``prefix`` precedes names of settings, for an unknown name or a value of the wrong type.
    """
    given = [dict[str, Any]() for _ in schemas]
    known = {
        field.metadata.get(KEY, field.name): (values, field.name, get_type_hints(schema)[field.name])
        for schema, values in zip(schemas, given, strict=True)
        for field in fields(schema)
    }
    for word in settings:
        key, _, text = word.partition("=")
        if key not in known:
            raise ConfigError(f"{prefix}{key} is not a setting here; {did_you_mean(key, known)}")
        values, name, annotation = known[key]
        value = _text(text, annotation) if annotation in (str, str | None) else hydra_config.read_value(word)
        check_type(value, annotation, f"{prefix}{key}")
        values[name] = value
    return given


def _text(text: str, annotation: Any) -> str | None:
    """Text without surrounding quotes; None for ``null`` and empty text if the type allows it."""
    if annotation is not str and text in ("", "null"):
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
