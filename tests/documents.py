"""The documents of the repository: their blocks, commands and headings."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
"""The text of each page by its path in the repository."""


def blocks(text: str, language: str, *words: str) -> list[str]:
    """Blocks of a page in a language that contain all of the words."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if all(word in block for word in words)]


def without_blocks(text: str) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def inline(text: str) -> list[str]:
    """Code between single backticks; a pipe in a table is written as such."""
    return [code.replace("\\|", "|") for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", without_blocks(text))]


def commands(text: str) -> list[list[str]]:
    """The words of every command of a page: each line of its bash blocks, without ``...``."""
    lines = "".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [[word.removesuffix("...") for word in words] for words in found if words]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE):
        anchor = re.sub(r"[^\w -]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()).replace(" ", "-")
        found.append(anchor if anchor not in found else f"{anchor}-{found.count(anchor)}")
    return set(found)
