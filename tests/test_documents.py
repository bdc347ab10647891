"""What the documents say is so: programs read the commands, links lead somewhere, and tables name what there is."""

import ast
import re
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeGuard

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from tests.commands.test_sweeps import needs
from tests.conftest import CLASSES, MODELS, some
from tests.documents import PAGES, ROOT, anchors, commands, inline, without_blocks
from vaezoo.benchmark import grid
from vaezoo.commands import adopt, compare, evaluate, explore, prior, push
from vaezoo.commands.apply import encode, render, score
from vaezoo.commands.export import command
from vaezoo.config import automatic, hydra_config
from vaezoo.evaluation import settings
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.models.loading import make_on_meta_device

README = PAGES["README.md"]
READ: dict[str, Callable[[list[str]], Any]] = {
    "adopt": adopt.read,
    "benchmark": lambda words: grid.read_cells(grid.read(words)),
    "compare": compare.parse,
    "encode": encode.arguments_of,
    "evaluate": evaluate.read,
    "explore": explore.read,
    "export": command.read,
    "prior": prior.read,
    "push": push.read,
    "render": render.arguments_of,
    "score": score.arguments_of,
}
"""What reads the arguments of each command that does not train."""
OF_RUNS = r"vaezoo (?!train)\w+ .*(RUN_DIR|out=)"
"""Commands between backticks that are whole."""
OTHERS = {"cp", "pip", "rm", "export", "pytest", "ruff"}
"""Programs that are not ours."""
GROUPS = ("model", "data", "trainer", "callbacks", "logger", "compile", "stepping", "threads", "figures", "evaluation")


def trained(text: str) -> list[list[str]]:
    """The settings of every training of a page, in blocks and between backticks."""
    whole = [code for code in inline(text) if re.match(r"(python train\.py|vaezoo train|torchrun|sbatch) .*=\S", code)]
    found = []
    for words in [*commands(text), *map(shlex.split, whole)]:
        for end, start in enumerate(words, 1):
            if start == "train.py" or start.endswith(".sh") or words[:end] == ["vaezoo", "train"]:
                found.append(words[end:])
    return found


def known(words: list[str]) -> bool:
    """Whether a command is whole, and has no model or package of one's own, as those of test_examples have."""
    return not any(re.search("lasso_ae|yourpackage|=NAME|=VALUE", word) for word in words)


CHECKED = [page for page in PAGES if page not in ("CHANGELOG.md", "docs/results.md")]
"""Pages whose commands are checked here; tests/scripts/test_results.py reads those of the results."""
TRAINED = {" ".join(words): words for page in CHECKED for words in trained(PAGES[page]) if known(words)}


def one_of_each(words: list[str]) -> list[str]:
    """The settings of the first run of a sweep."""
    single = [word if any(mark in word for mark in "[{(") else word.split(",")[0] for word in words]
    return [word for word in single if word not in ("-m", "...") and not re.search(r"=\w+\(", word)]


def composed(words: list[str]) -> Any:
    """The config of a training, checked."""
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=["run_dir=somewhere", *words])
    hydra_config.check(cfg)
    return cfg


def test_there_are_commands_to_check() -> None:
    assert len(TRAINED) > 60
    assert len(SETTINGS) > 60


@pytest.mark.parametrize("words", some(TRAINED.values(), of=2), ids=TRAINED)
def test_every_training_command_is_a_valid_config(words: list[str]) -> None:
    for word in words:
        if word.startswith("sweep="):
            needs(word.removeprefix("sweep="))
    cfg = composed(one_of_each(words))
    if cfg.resume is not None or ":" in cfg.model.network:
        return
    automatic.resolve(cfg)
    if "classes" in cfg.model:
        cfg.model.classes = CLASSES
    size = cfg.data.image_size or 28  # that of the array
    shape = (1, 1, 13) if cfg.data.source == "table" else (cfg.data.channels or 5, size, size)
    made: Any = make_on_meta_device(cfg, shape)
    assert made.formula()


def setting(text: str) -> list[str]:
    """The words of settings of a training that stand between backticks; none if it is something else, or a pattern."""
    try:
        words = shlex.split(text)
    except ValueError:
        return []
    keys = rf"\+?({'|'.join(GROUPS)})(\.[\w.]+)?=\S.*"
    proper = all(re.fullmatch(keys, word) and not re.search(r"=[A-Z.]+$", word) for word in words)
    return words if proper else []


SETTINGS = {text: words for page in CHECKED for text in inline(PAGES[page]) if (words := setting(text))}


def bases(word: str) -> list[list[str]]:
    """What a setting may need to be there: a model whose yaml has it, or one with many settings."""
    if not word.startswith("model."):
        return [["logger=[wandb,mlflow]"] if word.startswith("logger.") else []]
    key = re.split(r"[.=]", word)[1]
    own = [name for name in MODELS if f"\n{key}:" in (hydra_config.CONFIGS / f"model/{name}.yaml").read_text()]
    return [[f"model={name}"] for name in (*own, "vae", "vqvae", "ae")]


@pytest.mark.parametrize("words", some(SETTINGS.values(), of=3), ids=SETTINGS)
def test_every_setting_is_one_of_some_model(words: list[str]) -> None:
    reasons = []
    for base in bases(words[0]):
        try:
            composed([*base, *words])
            return
        except Exception as error:
            reasons.append(str(error))
    pytest.fail("\n".join(reasons))


def test_defaults_of_training_are_those_of_its_configs() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(\S+)` \|", PAGES["docs/use/train.md"], re.MULTILINE)
    assert len(rows) > 8
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        cfg = compose("train", overrides=["data=mnist", "run_dir=somewhere"], return_hydra_config=True)
    for key, value in rows:
        found = cfg.hydra.runtime.choices[key] if key == "callbacks" else OmegaConf.select(cfg, key)
        assert found == yaml.safe_load(value) or found == float(value), key


def test_defaults_of_an_evaluation_are_those_of_its_settings() -> None:
    rows = re.findall(r"^\| (`[\w`, ]+`) \| ([\w, ]+) \|", PAGES["docs/compare.md"], re.MULTILINE)
    told = {key: value for keys, values in rows for key, value in zip(inline(keys), values.split(", "), strict=True)}
    known = {name: str(value) for name, value in settings.FULL.as_dict().items()}
    assert told.items() <= known.items()
    assert known.keys() - told.keys() == {"steps", "dci_train"}


OTHER = {
    " ".join(words): words
    for page in CHECKED
    for words in [
        *commands(PAGES[page]),
        *(shlex.split(code) for code in inline(PAGES[page]) if re.match(OF_RUNS, code)),
    ]
    if known(words) and "train" not in words[:2] and not any(word == "train.py" for word in words)
}


@pytest.mark.parametrize("words", OTHER.values(), ids=OTHER)
def test_every_other_command_is_read_by_its_program(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *rest = [word.replace("out=DIR", f"out={tmp_path}").removesuffix("...") for word in words if word != "..."]
    if program == "vaezoo":
        READ[rest[0]](rest[1:])
    elif program == "python" and rest[0].startswith("scripts/"):
        monkeypatch.syspath_prepend(ROOT / "scripts")
        getattr(import_module(Path(rest[0]).stem), "parse", bool)(rest[1:])
    else:
        assert program in OTHERS or rest[:2] == ["-m", "sphinx"]


def test_the_readme_is_short_and_names_every_model() -> None:
    assert README.count("\n") < 200
    families = README.partition("## The zoo")[2].partition("##")[0]
    rows = [row for row in families.splitlines() if row.startswith("| ")]
    assert sorted(re.findall(r"`([a-z]\w*)`", "\n".join(rows))) == sorted(MODELS)


def test_the_results_of_the_readme_and_of_the_example_are_those_of_the_study() -> None:
    rows = re.findall(r"^\| (\S*AE.*) \|$", README.partition("## Results")[2], re.MULTILINE)
    example = [row for row in PAGES["docs/choose.md"].splitlines() if re.match(r"\| \S*AE .*\d", row)]
    assert len(rows) == len(example) == 4
    for row in example:
        assert row in PAGES["docs/results.md"].replace("**", "").splitlines(), row
    for row in rows:
        assert any({*row.split(" | ")} <= {*other.strip("| ").split(" | ")} for other in example), row


@pytest.mark.parametrize(
    ("page", "head", "least"), [("choose", "| question |", 20), ("use/tokenizers", "| metric |", 9)]
)
def test_every_metric_is_one_that_there_is(page: str, head: str, least: int) -> None:
    table = PAGES[f"docs/{page}.md"].partition(head)[2].partition("\n\n")[0]
    names = re.findall(r"`([a-z_0-9]+)`", table)
    assert len(names) > least
    assert {name for name in names if name not in CATALOGUE} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)(\S+?)\)", without_blocks(PAGES[page])):
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), target


def test_pages_that_programs_and_settings_name_are_there() -> None:
    files = [path for folder in ("vaezoo", "scripts", "configs", ".ci") for path in (ROOT / folder).rglob("*")]
    texts = [path.read_text() for path in files if path.suffix in {".py", ".yaml", ".sh"}]
    texts += [(ROOT / "pyproject.toml").read_text(), PAGES["CHANGELOG.md"]]
    named = {name for text in texts for name in re.findall(r"\bdocs/[\w/-]+\.md", text)}
    assert "docs/scale.md" in named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_pictures_are_small() -> None:
    names = [path for path in (ROOT / "docs").rglob("*.png") if "_build" not in path.parts]
    assert len(names) > 5
    for name in names:
        assert name.stat().st_size < 300_000
        Image.open(name).verify()


def test_every_guarantee_names_a_test_that_there_is_and_says_which_run_at_night() -> None:
    page = PAGES["docs/trust/reliability.md"]
    rows = re.findall(r"^\| (.+) \| `(tests/\S+\.py)::(\w+)` \|$", page, re.MULTILINE)
    assert len(rows) == page.count("`tests/") > 80
    for promise, file, name in rows:
        defined = {node.name: node for node in ast.walk(ast.parse((ROOT / file).read_text())) if is_function(node)}
        assert name in defined, f"{file}::{name}"
        decorators = [ast.unparse(decorator) for decorator in defined[name].decorator_list]
        assert ("pytest.mark.nightly" in decorators) == promise.endswith("☾"), f"{file}::{name}"


def is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef)
