"""Checks of settings against ranges and the signatures of the classes they are for."""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vaezoo.config.automatic import AUTO
from vaezoo.config.choices import DPI, FORMATS, MOST_THREADS
from vaezoo.config.errors import ConfigError

Part = TypeVar("Part")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing clause for an error: the nearest known name, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known names: {', '.join(known)}" if known else "nothing can be set here"


def parameters(target: Any) -> dict[str, Any]:
    """Argument names and annotations of ``target``; ``**kwargs`` of a class stand for its parent's arguments."""
    if not inspect.isclass(target):
        return _named(target)
    found: dict[str, Any] = {}
    for cls in target.__mro__:
        init = vars(cls).get("__init__")
        if init is None or cls is object:
            continue
        found = {**_named(init), **found}
        kinds = [parameter.kind for parameter in inspect.signature(init).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    found.pop("self", None)
    return found


def check_arguments(target: Any, values: Mapping[str, Any], *, key: str, extra: Collection[str] = ()) -> None:
    """ConfigError for a name in ``values`` that ``target`` does not accept, or a value of the wrong type.

    ``key`` is the dotted key of the values in the config; names in ``extra`` are passed by the program and refused.
    """
    known = parameters(target)
    for name, value in values.items():
        if name in extra:
            raise ConfigError(f"{key}.{name} is set by the program and cannot be changed")
        if name not in known:
            raise ConfigError(f"{key}.{name} is not a setting here; {did_you_mean(name, set(known) - set(extra))}")
        check_type(value, known[name], f"{key}.{name}")


def create(
    key: str, known: Mapping[str, type[Part]], name: str, options: Mapping[str, Any] | None = None, /, **sizes: Any
) -> Part:
    """The part called ``name`` for the setting ``key``, such as ``model.prior``, created with its ``options``.

    It also gets those of ``sizes`` that its class takes. ConfigError for an unknown name or option.
    """
    one_of(name, known, key)
    cls, options = known[name], dict(options or {})
    check_arguments(cls, options, key=f"{key}_options", extra=tuple(sizes))
    taken = parameters(cls)
    return cls(**{size: value for size, value in sizes.items() if size in taken}, **options)


def one_of(value: Any, known: Iterable[str], key: str) -> None:
    """ConfigError if the ``value`` of the setting ``key`` is not among the ``known`` ones."""
    if value not in tuple(known):
        raise ConfigError(f"{key} must be one of {', '.join(known)}, got {shown(value)}")


def at_least(value: float, least: float, key: str) -> None:
    """ConfigError if the ``value`` of the setting ``key`` is below ``least`` or not finite."""
    if not least <= value < math.inf:
        raise ConfigError(f"{key} must be at least {least:g}{'' if value < least else ' and finite'}, got {value:g}")


def within(value: float, least: float, most: float, key: str) -> None:
    """ConfigError if the ``value`` of the setting ``key`` is not in [``least``, ``most``]."""
    at_least(value, least, key)
    if value > most:
        raise ConfigError(f"{key} must be at most {most:,}, got {value:,}")


def sum_of(sizes: Sequence[int], key: str, latent_dim: int | None) -> int:
    """The dimensions of a code whose parts have these sizes, the setting ``key``.

    ConfigError without any parts, for a size below 1, and for another ``latent_dim``, which should be null.
    """
    if not sizes:
        raise ConfigError(f"{key} must have at least one number, got {list(sizes)}")
    for size in sizes:
        within(size, 1, 2**30, f"each of {key}")
    if latent_dim not in (None, sum(sizes)):
        raise ConfigError(f"model.latent_dim follows from {key}, whose sum is {sum(sizes)}; set it to null")
    return sum(sizes)


def term_of_kind(kinds: Mapping[str, Mapping[str, float]], kind: str, weight: float | None) -> dict[str, float]:
    """The name and the weight of the term of ``model.kind``; empty for a kind without one.

    ``kinds`` have their terms with default weights, which a ``weight`` replaces. ConfigError for an unknown kind, and
    for a weight that is negative or of a kind without a term.
    """
    one_of(kind, kinds, "model.kind")
    if weight is None:
        return dict(kinds[kind])
    if not kinds[kind]:
        weighed = " or ".join(name for name, term in kinds.items() if term)
        raise ConfigError(f"model.weight weighs the term of model.kind={weighed}; set it to null, got {kind}")
    at_least(weight, 0, "model.weight")
    return dict.fromkeys(kinds[kind], weight)


def above(value: float, bound: float, key: str) -> None:
    """ConfigError if the ``value`` of the setting ``key`` is not above ``bound`` or not finite."""
    if not bound < value < math.inf:
        raise ConfigError(f"{key} must be above {bound:g}{'' if value <= bound else ' and finite'}, got {value:g}")


def check_picture(key: str, dpi: Any, format: Any) -> None:
    """ConfigError for an invalid ``dpi`` or ``format`` of the figures with the settings ``key``."""
    if type(dpi) is not int or dpi not in DPI:
        raise ConfigError(f"{key}.dpi must be a whole number from {DPI.start} to {DPI.stop - 1}, got {shown(dpi)}")
    one_of(format, FORMATS, f"{key}.format")


def check_threads(setting: Any) -> None:
    """ConfigError unless ``setting`` is auto or a number from 1 to ``MOST_THREADS``."""
    whole = isinstance(setting, int) and not isinstance(setting, bool)
    if setting != AUTO and not (whole and 1 <= setting <= MOST_THREADS):
        raise ConfigError(f"threads must be auto or a number from 1 to {MOST_THREADS}, got {setting!r}")


def _named(function: Any) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that only a type checker can resolve
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(function).parameters.values()
    return {parameter.name: hints.get(parameter.name, Any) for parameter in signature if parameter.kind in named}


def check_type(value: Any, annotation: Any, key: str) -> None:
    """ConfigError if the ``value`` of the setting ``key`` does not have the annotated type; a list may be a tuple."""
    import typeguard  # slow to import, and --help and list need no checks

    wrong_bool = isinstance(value, bool) and annotation in (int, float, int | None, float | None)
    if wrong_bool or not any(_has_type(typeguard, each, annotation) for each in _readings(value)):
        raise ConfigError(f"{key} must be {_in_words(annotation)}, got {shown(value)} ({type(value).__name__})")


def _readings(value: Any) -> list[Any]:
    """The values that a setting may stand for: configs have no tuples."""
    return [value, tuple(value)] if isinstance(value, list) else [value]


def _has_type(typeguard: Any, value: Any, annotation: Any) -> bool:
    try:
        typeguard.check_type(value, annotation)
    except typeguard.TypeCheckError:
        return False
    return True


def shown(value: Any) -> str:
    """The repr of a value for a message, shortened if it is long."""
    text = repr(value)
    return text if len(text) < 100 else f"{text[:80]}..."


def _in_words(annotation: Any) -> str:
    """A type as text for users of configs: ``int or null``, ``'a' or 'b'``, ``list[int]``."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(repr(part) for part in typing.get_args(annotation))
    return "null" if annotation is type(None) else inspect.formatannotation(annotation).replace("typing.", "")
