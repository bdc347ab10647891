"""A command's line: its help and exit code, and its words ``KEY=VALUE`` as the fields of dataclasses."""

import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from vaezoo.config import hydra_config
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_type, did_you_mean

KEY = "key"
"""In the metadata of a field: how it is written on the command line, where that is no name, as ``data.root``."""


def run(words: Sequence[str], usage: str, program: Callable[[], int], *, alone: bool = False) -> int:
    """Run a command and return its exit code: 1 after an error of the user's, told in one sentence.

    ``usage`` is printed instead for ``--help``, and where there are no words, which is no success; ``alone`` says that
    the command needs none.
    """
    if {"-h", "--help"} & set(words) or not (words or alone):
        print(usage, end="")
        return 0 if words else 2
    try:
        return program()
    except Exception as error:
        return hydra_config.refuse(error)


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Places and settings. A word is a place if there is a folder of that name, whatever signs are in it."""
    places = [word for word in words if "=" not in word or os.path.isdir(word)]
    return places, [word for word in words if word not in places]


def read(settings: Sequence[str], *schemas: type, prefix: str = "") -> list[dict[str, Any]]:
    """The values that settings give to the fields of each dataclass, by the fields' names.

    The later one of two stands. Fields of text take theirs as it is typed, others as YAML reads it. ConfigError for a
    name that is no field's, or a value of another type; it calls settings by their names behind ``prefix``.
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
    """Text without the quotes around it; None for ``null`` and for nothing where that may be."""
    if annotation is not str and text in ("", "null"):
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text
