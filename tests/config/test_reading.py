"""Files of a record are read as plain values, and no more of them than a record has."""

import math
import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from vaezoo.config import reading
from vaezoo.config.errors import RunError, VaezooError, printable

LAUGHS = "a0: &a0 [x, x]\n" + "\n".join(f"a{at + 1}: &a{at + 1} [*a{at}, *a{at}]" for at in range(40))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system ['touch owned']", "no tags"),
        ("a: !!python/name:os.system", "no tags"),
        ("a: !!binary aGk=", "no tags"),
        ("a: !custom 1", "no tags"),
        (LAUGHS, "no tags"),
        ("a: &x 1", "no tags"),
        ("a: " + "[" * 100 + "]" * 100, "nested more deeply"),
        ("a: " + "{b: " * 5000, "cannot be read"),
        ("a: ${oc.env:HOME}", "contains no ${...}"),
        ("a: ['x${b}']", "a.0 is"),
        ('a: "\\e[31m"', "no control characters"),
        ("a: [" + "1," * 20_000 + "]", "more settings"),
        ("a: 1" + "0" * 5000, "cannot be read"),
        ("{1: 2}", "not text"),
        ("- 1", "contains no settings"),
        ("a: 1\n---\nb: 2", "cannot be read"),
        ("a: 1\na: 2", "cannot be read"),
        ("? [a, b]\n: 1", "cannot be read"),
    ],
    ids=lambda text: text[:20],
)
def test_a_config_is_plain_values_and_nothing_else(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be read|contains no settings") as caught:
        reading.read_config(written(tmp_path / "config.yaml", text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_sound_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    values = {"a": {"b": [1, 2.5, None, True, "x y", "1e-3", ""]}, "c": -1e-3, "d": "München β"}
    path = written(tmp_path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(values), resolve=True))
    assert OmegaConf.to_container(reading.read_config(path)) == values


def test_no_more_is_read_than_a_record_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing
    monkeypatch.setattr(reading, "MOST_JSON", 1000)
    monkeypatch.setattr(reading, "MOST_CSV", 1000)
    for read in (reading.read_config, reading.read_json, reading.read_rows):
        with pytest.raises(RunError, match=r"has more than 1,0.* bytes"):
            read(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunError, match="it is not a file"):
        reading.read_json(tmp_path / "pipe")


@pytest.mark.parametrize(
    "text",
    [
        "step,a\n1,<b>\n",
        "step,a\n1,2,3\n",
        "step,a\n1,\x00\n",
        ",".join(f"c{at}" for at in range(10_001)) + "\n1\n",
        'step\n"' + "x" * 200_000 + '"\n',
    ],
    ids=["html", "more values than names", "zero", "columns", "long"],
)
def test_metrics_are_rows_of_numbers(text: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"metrics.csv cannot be read") as caught:
        reading.read_rows(written(tmp_path / "metrics.csv", text))
    assert "\n" not in str(caught.value)


def test_metrics_may_be_torn_infinite_or_missing(tmp_path: Path) -> None:
    rows = reading.read_rows(written(tmp_path / "metrics.csv", "step,a\n1,inf\n2,\n3,0.5\n4,0."))
    assert rows == [{"step": 1, "a": math.inf}, {"step": 2}, {"step": 3, "a": 0.5}]
    assert reading.read_rows(written(tmp_path / "empty.csv", "")) == []


def test_numbers_of_a_record_have_a_size(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        reading.read_json(written(tmp_path / "b.json", f'{{"a": 1{"0" * 5000}}}'))
    found = reading.read_json(written(tmp_path / "a.json", f'{{"a": 1{"0" * 500}, "b": 12, "c": NaN}}'))
    assert [reading.is_number(found[name]) for name in "abc"] == [False, True, False]


def test_what_is_shown_cannot_move_the_cursor() -> None:
    name = "a\nb\x1b[2J\u202egnp\udc80 ok β"
    assert printable(name) == "a\\nb\\x1b[2J\\u202egnp\\udc80 ok β"
    assert str(VaezooError(f"cannot read {name}")).isprintable()
