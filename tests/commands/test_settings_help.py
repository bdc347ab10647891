"""``--help`` shows each setting with the comment that its yaml file has."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from vaezoo.commands.settings_help import Comments, annotated, read_comments
from vaezoo.config import hydra_config

Program = Callable[..., tuple[int, str]]


def words(text: str) -> str:
    """A text whose lines may be wrapped anywhere, and begin with a #."""
    return " ".join(re.sub(r"(^|\s)#(?=\s)", " ", text).split())


def comments(path: str) -> list[str]:
    """Every line of comment in a yaml file, up to the settings of Hydra, which are not shown."""
    shown = (hydra_config.CONFIGS / path).read_text().partition("\nhydra:")[0].splitlines()
    found = [line.partition("#")[2].strip() for line in shown if re.search(r"(^|\s)#", line)]
    return [line for line in found if not line.startswith("@package")]


CHOSEN = {
    "model": ["_shared", "beta_vae"],
    "data": ["_shared", "celeba"],
    "trainer": ["default", "ddp"],
    "callbacks": ["_pictures", "_averages", "_checkpoints", "ema"],
    "logger": ["default"],
}
"""A file of each group, after those that it includes."""


def test_every_comment_of_the_chosen_files_is_shown(program: Program) -> None:
    code, printed = program("train", *(f"{group}={files[-1]}" for group, files in CHOSEN.items()), "--help")
    assert code == 0
    expected = [line for group, files in CHOSEN.items() for file in files for line in comments(f"{group}/{file}.yaml")]
    lacking = [line for line in [*comments("train.yaml"), *expected] if words(line) not in words(printed)]
    assert len(expected) > 50
    assert lacking == []


@pytest.mark.parametrize("group", ["model", "data", "trainer", "callbacks", "logger", "experiment"])
def test_every_comment_of_every_choice_is_shown(program: Program, group: str) -> None:
    for name in hydra_config.options(group):
        _, printed = program("train", f"{group}={name}", "--help")
        own = [line for line in comments(f"{group}/{name}.yaml") if not line.startswith("arguments of vaezoo")]
        assert [line for line in own if words(line) not in words(printed)] == [], name


def test_a_comment_is_beside_its_setting_and_not_beside_another_of_that_name(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    _, printed = program("train", "model=beta_vae", "--help")
    lines = printed.splitlines()
    assert any(
        re.match(r"  beta_schedule: constant +# constant \| linear \(warm-up\) \| cyclic$", line) for line in lines
    )
    assert re.findall(r"^ *seed: .*$", printed, re.MULTILINE) == [
        "  seed: ${seed}                     # order and noise of training",
        "seed: 0                             # of weights, order of images and noise;"
        " the split into train, val and test has its own",
    ]
    assert "\n    lr: 0.001\n" in printed


def test_comments_are_wrapped_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, lines in ((20, 4), (100, 4), (200, 2)):
        monkeypatch.setenv("COLUMNS", str(columns))
        printed = annotated("resume: null\n", {}, hydra_config.CONFIGS).splitlines()[1:]
        assert len(printed) == lines
        assert max(len(line) for line in printed) <= max(columns, 100)


def test_comments_above_behind_and_below(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("# About all.\na: 1   # shared\nkept: 2  # as it was\n")
    (tmp_path / "file.yaml").write_text(
        "# About\n# the file.\ndefaults: [base, _self_]\n# above b\n# in two lines\nb:\n  c: '#5'\n"
        "  d: 1   # behind d\n         # and below\n\n# of nothing\n\na: 3     # own\n"
    )
    found = Comments()
    read_comments(tmp_path / "file.yaml", "group", found)
    assert found.about == {"group": ["About all.", "About", "the file."]}
    assert found.of == {
        "group.a": "shared; own",
        "group.kept": "as it was",
        "group.b": "above b in two lines",
        "group.b.d": "behind d and below",
    }


@pytest.mark.parametrize("command", ["train", "evaluate", "prior", "benchmark", "compare", "export", "list"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(program: Program, command: str, flag: str) -> None:
    code, printed = program(command, flag)
    assert code == 0
    assert command in printed
