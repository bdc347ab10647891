"""Docstrings of models as Markdown."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

PAPERS = re.compile(r" \(([^()]*\b(?:19|20)\d\d\b[^()]*)\)$")
SECTION = re.compile(r"^(Args|Raises):$")


@dataclass(frozen=True)
class Described:
    """A class in words: one sentence without its papers, the papers, further paragraphs, and its arguments."""

    sentence: str
    papers: str
    paragraphs: tuple[str, ...]
    arguments: tuple[str, ...]


def described(cls: type) -> Described:
    """What the docstring of a class says."""
    first, *rest = (inspect.getdoc(cls) or "").split("\n\n")
    sentence = _joined(first).rstrip(".")
    papers = PAPERS.search(sentence)
    texts = [part for part in rest if not SECTION.match(part.partition("\n")[0])]
    args = next((part for part in rest if part.startswith("Args:\n")), "")
    return Described(
        _markdown(sentence[: papers.start()] if papers else sentence),
        papers[1] if papers else "",
        tuple(_markdown(_joined(text)) for text in texts),
        tuple(_argument(text) for text in _arguments(args)),
    )


def _joined(text: str) -> str:
    return " ".join(text.split())


def _arguments(section: str) -> Iterator[str]:
    """The arguments of a section, each on one line."""
    entries = re.split(r"\n    (?=\S)", section)[1:]
    yield from map(_joined, entries)


def _argument(text: str) -> str:
    names, _, meaning = text.partition(": ")
    return f"{', '.join(f'`{name}`' for name in names.split(', '))}: {_markdown(meaning)}"


def _markdown(text: str) -> str:
    """Text of a docstring with code in single quotes, and signs that Markdown would read escaped outside of it."""
    parts = re.split(r"``(.+?)``", text)
    escaped = (re.sub(r"([*<])|(?<!\w)(_)|(_)(?!\w)", r"\\\g<0>", part) for part in parts[::2])
    code = [f"`{part}`" for part in parts[1::2]]
    return "".join(piece for pair in zip(escaped, [*code, ""], strict=True) for piece in pair)
