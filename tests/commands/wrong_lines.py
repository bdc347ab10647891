"""Wrong command lines by the thousand: every setting of every config, changed as a slip would change it."""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vaezoo.config import hydra_config
from vaezoo.config.reading import flat
from vaezoo.evaluation.settings import FULL

NEVER_A_NUMBER = ("abc", "{}", "{a: 1}", "[a]", "nan", "inf", "-inf", "1" + "0" * 20, "-" + "9" * 30, "${nosuch}", "''")
NEGATIVE = ("-1", "-1000000000", "-0.5")
NUMBERS = ("0", "1", "2", "3", "0.5", "1.0", "1.5", "1e-9", "1e-320", "1e300", "1e9", str(2**31), str(2**63 - 1))
TEXTS = (
    *("null", "true", "[]", "[1,2]", "[[1]]", "'1'", "???", "ä", "'a b'", "a=b", "=", "../x", "x" * 300, "x" * 20_000),
    *(
        "'line\nbreak'",
        "'\x1b[31m'",
        "'${seed}'",
        "${oc.env:HOME}",
        "${seed}",
        "\U0001f642",
        "None",
        "~",
        "*",
        "a,b",
    ),
)
UNREADABLE = (
    *("[1", "{a:", "'a", '"a', "a]", "{a: 1}}", "[1,,2]", "(1", "range(", "choice(", "\\", "'a'b", "a: b: c"),
    "9" * 5000,
)
ALL_ALIKE = ("trainer.max_epochs", "trainer.max_steps", "trainer.num_sanity_val_steps", "trainer.devices")
"""Settings of which -1 means all, or no end."""
TOO_SLOW = ("compile=true", "evaluation=full", "hydra.verbose=true")
"""Right, but not within a test's time."""

SMALL = (
    *("model.widths=[4]", "model.latent_dim=2", "data.limit=64", "trainer.max_epochs=1", "trainer.max_steps=2"),
    *("evaluation=none", "trainer.enable_progress_bar=false"),
)
QUICK = (
    "quick=true",
    "images=10",
    "train_images=10",
    "k=1",
    "bound_images=1",
    "samples=10",
    "pairs=2",
    "paths=1",
    "steps=3",
)
PICTURES_OFF = "callbacks=none"
OF_TORCH = [
    "",
    "lr: 0.01",
    "step_size: 1",
    "step_size: 0",
    "T_max: 2",
    "gamma: 0.5",
    "gamma: -1",
    "total_iters: 0",
    "milestones: [1]",
    "T_0: 1",
    "lr_lambda: 1",
    "max_lr: 0.1, total_steps: total_steps",
    "max_lr: 0.1, total_steps: 1",
    "schedulers: [1]",
    "betas: [2, 3]",
    "momentum: -1",
    "weight_decay: -1",
    "patience: -1",
    "interval: batch",
    "frequency: 0",
    "monitor: nosuch",
    "interval: epoch",
]
"""Settings of optimisers and schedules."""
GROUPS = ["model", "data", "trainer", "callbacks", "logger", "experiment", "sweep", "hydra", "hydra/launcher"]
OF_GROUPS = [
    "G=nosuch",
    "G=null",
    "G=[]",
    "G=[a,b]",
    "G={}",
    "G=",
    "~G",
    "+G=nosuch",
    "G.x=1",
    "+G.x=1",
    "G._target_=os.system",
    "+G._target_=abc",
    "+G._args_=[1]",
    "+G._partial_=true",
    "G/x=1",
    "G@x=1",
    "G",
    "=G",
]
"""What may stand where a group is chosen."""
OTHERS = [
    "=",
    "",
    "-x",
    "--nosuch",
    "--config-name=nosuch",
    "--cfg",
    "--cfg=nosuch",
    "--resolve",
    "-h=1",
    "--",
    "a b",
    "🙂=1",
    "model",
    "seed",
    "~seed",
    "~test",
    "~model.latent_dim",
    "~data.source",
    "~trainer._target_",
    "~run_dir",
    "hydra.run.dir=OUT",
    "hydra.mode=MULTIRUN",
    "precision=64",
    "hydra.job.chdir=true",
    "hydra.output_subdir=x",
    "resume=nosuch",
    "resume=",
    "resume=''",
    "resume=[a]",
    "+resume=x",
    "resume.force=true",
    "resume.force=1",
    "packages=[a]",
    "trainer.precision=64-true",
    "trainer.precision=16-true",
    "trainer.precision=bf16-true",
    "trainer.precision=bf16-mixed",
    "trainer.precision=transformer-engine",
    "trainer.strategy=ddp",
    "trainer.num_nodes=2",
    "trainer.strategy=fsdp",
    "trainer.strategy=deepspeed",
    "trainer.accelerator=tpu",
    "trainer.devices=2",
]
"""Other words that are wrong, or that few would type."""


class Line(NamedTuple):
    """Words, in which RUN stands for a sound run and OUT for where to write; ``wrong``: they are never right."""

    words: tuple[str, ...]
    wrong: bool

    @property
    def command(self) -> str:
        return self.words[0]


class Leaf(NamedTuple):
    """A setting, the choice of a group that has it, and its value."""

    key: str
    choice: tuple[str, ...]
    value: Any


@lru_cache(maxsize=1)
def leaves() -> tuple[Leaf, ...]:
    """Every setting of every yaml of every group, and those of training itself."""
    found: dict[str, Leaf] = {}
    chosen = [[f"{group}={name}"] for group in ("trainer", "model", "callbacks", "logger") for name in _tried(group)]
    with initialize_config_dir(version_base="1.3", config_dir=str(hydra_config.CONFIGS)):
        for choice in ([], *chosen):
            cfg = compose("train", overrides=[*choice, "run_dir=somewhere"])
            for key, value in flat(OmegaConf.to_container(cfg, resolve=True)):
                found.setdefault(key, Leaf(key, tuple(choice), value))
    return tuple(leaf for leaf in found.values() if not leaf.key.rpartition(".")[2].startswith("_"))


def _tried(group: str) -> list[str]:
    """Choices that a machine without GPUs, and without several processes, can train."""
    return [name for name in hydra_config.options(group) if name not in ("gpu", "ddp", "fsdp2")]


def lines(seed: int, count: int) -> list[Line]:
    """So many command lines, always the same ones for a seed."""
    generator = random.Random(seed)
    makers = {
        _train: 60,
        _settings_of_torch: 6,
        _structure: 8,
        _resume: 8,
        _evaluate: 7,
        _export: 5,
        _compare: 3,
        _list: 1,
        _sweep: 2,
    }
    chosen = generator.choices(list(makers), weights=list(makers.values()), k=count)
    return [line for make in chosen if not {*TOO_SLOW} & set((line := make(generator)).words)]


def benchmarks(seed: int, count: int) -> list[Line]:
    """Lines of a benchmark, whose processes take seconds to start."""
    generator = random.Random(seed)
    evaluate = [f"evaluate.{word}" for word in QUICK]
    base = ("benchmark", "models=[ae]", "seeds=[0]", *SMALL[:-2], PICTURES_OFF, *evaluate)
    own = [
        "models",
        "seeds",
        "jobs",
        "launcher",
        "launcher.partition",
        "evaluate.k",
        "evaluate.quick",
        "evaluate",
        "out",
    ]

    def made() -> Line:
        if generator.random() < 0.5:
            word, wrong = _changed(generator, generator.choice(leaves()))
            return Line((*base, "out=OUT", word), wrong)
        key, value = generator.choice(own), generator.choice((*NEVER_A_NUMBER, *NEGATIVE, *TEXTS, *UNREADABLE))
        return Line((*base, *(["out=OUT"] if key != "out" else []), f"{key}={value}"), False)

    return [made() for _ in range(count)]


# what is changed -----------------------------------------------------------------------------------------------------


def _changed(generator: random.Random, leaf: Leaf) -> tuple[str, bool]:
    """A word that changes a setting, and whether it can never be right."""
    number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
    kind = generator.choices(("value", "near", "key", "unreadable"), weights=(60, 15, 15, 10))[0]
    if kind == "key":
        return _misspelt(generator, leaf.key), True
    if kind == "unreadable":
        value = generator.choice(UNREADABLE)
        return f"{leaf.key}={value}", number
    if kind == "near" and number:
        value = generator.choice((leaf.value + 1, leaf.value - 1, leaf.value * 2, -leaf.value, leaf.value / 2))
        return f"{leaf.key}={value}", value < 0 and leaf.key not in ALL_ALIKE
    value = generator.choice((*NEVER_A_NUMBER, *NEGATIVE, *NUMBERS, *TEXTS))
    never = value in NEVER_A_NUMBER or (value in NEGATIVE and leaf.key not in ALL_ALIKE)
    return f"{leaf.key}={value}", number and never


def _misspelt(generator: random.Random, key: str) -> str:
    """A key with a letter too few, too many, twice, in the wrong place or of the wrong case."""
    at = generator.randrange(len(key))
    slips = (key[:at] + key[at + 1 :], key[:at] + "x" + key[at:], key[:at] + key[at].upper() + key[at + 1 :], key + "s")
    slip = generator.choice([*slips, key + ".", "." + key, key.replace(".", "..", 1), key.replace("_", "-"), key[::-1]])
    known = {key} | {leaf.key for leaf in leaves()} | {leaf.key.rpartition(".")[0] for leaf in leaves()}
    return f"{slip if slip not in known else slip + 'q'}=1"


def _base(leaf: Leaf) -> tuple[str, ...]:
    pictures = leaf.key.startswith("callbacks.") or any(word.startswith("callbacks=") for word in leaf.choice)
    return (*SMALL, *leaf.choice, *([] if pictures else [PICTURES_OFF]))


def _train(generator: random.Random) -> Line:
    """One setting that is wrong, two in ten lines, or one twice."""
    leaf = generator.choice(leaves())
    word, wrong = _changed(generator, leaf)
    words = [word]
    if generator.random() < 0.2:
        other = generator.choice([each for each in leaves() if each.key not in ALL_ALIKE])
        words.append(_changed(generator, leaf if generator.random() < 0.3 else other)[0])
        wrong = False  # the second may put the first right
    if generator.random() < 0.1:
        words[0] = generator.choice(("+", "++", "~")) + words[0]
        wrong = False
    run_dir = [] if leaf.key == "run_dir" else ["run_dir=OUT"]
    return Line(("train", *run_dir, *_base(leaf), *words), wrong)


def _settings_of_torch(generator: random.Random) -> Line:
    """Every optimiser and schedule that torch has, with and without settings."""
    kind, module = generator.choice((("optimizer", torch.optim), ("scheduler", torch.optim.lr_scheduler)))
    names = [name for name, each in vars(module).items() if isinstance(each, type)]
    settings = [f"name: {generator.choice([*names, 'abc', 'Module', '__init__'])}", generator.choice(OF_TORCH)]
    word = f"model.{kind}={{{', '.join(filter(None, settings))}}}"
    return Line(("train", "run_dir=OUT", *SMALL, PICTURES_OFF, word), False)


def _structure(generator: random.Random) -> Line:
    """Groups, parts and flags of the command line that are not as Hydra wants them."""
    words = OTHERS if generator.random() < 0.5 else OF_GROUPS
    word = (
        generator.choice(words).replace("G", generator.choice(GROUPS))
        if words is OF_GROUPS
        else generator.choice(words)
    )
    return Line(("train", "run_dir=OUT", *SMALL, PICTURES_OFF, word), False)


def _resume(generator: random.Random) -> Line:
    """A run that is finished, to be made longer, and what is wrong beside it."""
    leaf = generator.choice(leaves())
    word, _ = _changed(generator, leaf)
    words = [word, *(["resume.force=true"] if generator.random() < 0.4 else [])]
    run = generator.choice(["RUN"] * 12 + ["nosuch", "''", "", "/", "[RUN]", "'RUN", "x" * 300, "RUN/config.yaml"])
    return Line(("train", f"resume={run}", "trainer.max_epochs=2", "trainer.max_steps=4", *words), False)


def _sweep(generator: random.Random) -> Line:
    leaf = generator.choice([leaf for leaf in leaves() if not leaf.key.startswith("callbacks.")])
    first, second = (_changed(generator, leaf)[0].partition("=") for _ in range(2))
    word = f"{first[0]}={first[2]},{second[2]}"
    folder = [] if leaf.key == "run_dir" else ["run_dir=OUT"]
    return Line(("train", "-m", *folder, *_base(leaf), word), False)


def _other_command(generator: random.Random, command: str, sound: Sequence[str], keys: Sequence[str]) -> Line:
    """A command other than train with a word that is wrong, too much, or missing."""
    values = (*NEVER_A_NUMBER, *NEGATIVE, *NUMBERS, *TEXTS, *UNREADABLE)
    words = list(sound)
    kind = generator.choice(("change", "change", "change", "misspell", "leave out", "add", "twice"))
    if kind == "change":
        key = generator.choice(keys)
        words = [word for word in words if not word.startswith(f"{key}=")] + [f"{key}={generator.choice(values)}"]
    elif kind == "misspell":
        words.append(_misspelt(generator, generator.choice(keys)))
    elif kind == "leave out":
        words.pop(generator.randrange(len(words)))
    elif kind == "add":
        added = ("nosuch", "", "/", "x" * 300, "-x", "--nosuch", "=", "a\nb", "RUN/config.yaml")
        words.insert(0, generator.choice(added))
    else:
        words.append(generator.choice(words))
    return Line((command, *words), kind == "misspell")


def _evaluate(generator: random.Random) -> Line:
    keys = [*FULL.as_dict(), "quick", "device", "packages", "data.root"]
    return _other_command(generator, "evaluate", ["RUN", *QUICK], keys)


def priors(seed: int, count: int) -> list[Line]:
    """Lines that fit a prior."""
    generator = random.Random(seed)
    keys = ("epochs", "width", "layers", "batch_size", "seed", "device", "packages", "data.root")
    return [_other_command(generator, "prior", ["RUN", "epochs=1"], keys) for _ in range(count)]


SHARED = ("out", "images", "label", "seed", "device", "checkpoint", "overwrite", "data.root", "data.follow_links")
APPLIED = {
    "encode": (["RUN", "out=OUT/a.csv"], ()),
    "score": (["RUN", "out=OUT/a.csv", "k=1"], ("anomalies", "k", "neighbours", "train_images")),
    "render": (
        ["RUN", "out=OUT/a.png", "what=sample"],
        ("what", "a", "b", "count", "steps", "rows", "extent", "prior", "dpi"),
    ),
}
"""Commands that apply a trained model to images: words that are right, and settings of their own."""


def applied(seed: int, count: int) -> list[Line]:
    """Lines that apply a trained model to images."""
    generator, found = random.Random(seed), []
    for _ in range(count):
        command = generator.choice(list(APPLIED))
        words, own = APPLIED[command]
        found.append(_other_command(generator, command, list(words), (*SHARED, *own)))
    return found


def _export(generator: random.Random) -> Line:
    keys = ("out", "out", "program", "checkpoint", "overwrite", "licence", "packages", "data.root")
    return _other_command(generator, "export", ["RUN", "out=OUT/model"], keys)


def _compare(generator: random.Random) -> Line:
    return _other_command(generator, "compare", ["RUN", "out=OUT"], ("out", "packages", "x"))


def _list(generator: random.Random) -> Line:
    command = generator.choice(("list", "lsit", "", "train.py", "-v"))
    return Line((command, generator.choice(("model", "x=1", "-x", ""))), True)


def every_leaf(values: Sequence[str]) -> Iterator[Line]:
    """Each setting with each of some values: nothing is left to chance."""
    for leaf in leaves():
        for value in values:
            run_dir = [] if leaf.key == "run_dir" else ["run_dir=OUT"]
            number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
            yield Line(("train", *run_dir, *_base(leaf), f"{leaf.key}={value}"), number and value in NEVER_A_NUMBER)
