"""Words of a command line become the fields of dataclasses, or one sentence."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from vaezoo.config import arguments
from vaezoo.config.errors import ConfigError


@dataclass
class Place:
    root: str | None = field(default=None, metadata={arguments.KEY: "data.root"})
    kind: Literal["a", "b"] = "a"


@dataclass
class Sizes:
    k: int = 1


def test_settings_go_to_the_dataclass_that_has_their_field() -> None:
    assert arguments.read(["data.root=/x", "k=3", "kind=b"], Place, Sizes) == [{"root": "/x", "kind": "b"}, {"k": 3}]
    assert arguments.read(["k=3", "k=4"], Sizes) == [{"k": 4}]


@pytest.mark.parametrize(
    ("typed", "text"),
    [("1e3", "1e3"), ("'a b'", "a b"), ("null", None), ("", None), ("a: [b", "a: [b"), ("a=b", "a=b")],
)
def test_text_is_taken_as_it_is_typed(typed: str, text: str | None) -> None:
    assert arguments.read([f"data.root={typed}"], Place) == [{"root": text}]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("kk=1", r"do\.kk is not a setting here; did you mean 'k'\?"),
        ("k=true", r"do\.k must be int, got True \(bool\)"),
        ("kind=c", r"do\.kind must be 'a' or 'b', got 'c'"),
        ("k=[", "cannot read a setting"),
    ],
)
def test_a_mistake_is_one_sentence(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arguments.read([word], Place, Sizes, prefix="do.")


def test_a_folder_with_an_equals_sign_is_a_place(tmp_path: Path) -> None:
    (tmp_path / "k=1").mkdir()
    words = [str(tmp_path / "k=1"), "run", "k=2"]
    assert arguments.split(words) == (words[:2], ["k=2"])


def test_help_comes_first_and_no_words_are_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise ConfigError("no")

    assert [arguments.run(words, "usage", refuse) for words in (["x", "-h"], [], ["x"])] == [0, 2, 1]
    assert capsys.readouterr() == ("usageusage", "error: no\n")
    assert arguments.run([], "usage", lambda: 3, needs_words=False) == 3
