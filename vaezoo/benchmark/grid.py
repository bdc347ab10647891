"""Parses the command line of a benchmark into a grid of runs. Imports no torch."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vaezoo.benchmark.fairness import refuse_no_end, refuse_unequal_steps
from vaezoo.config import arguments, automatic
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import one_of
from vaezoo.runs import paths, user_code
from vaezoo.runs.user_code import UserCode

LIST_VALUED = {
    "data.columns",
    "data.image_size",
    "data.leave_out",
    "data.mean",
    "data.range",
    "data.std",
    "model.discriminator_options.betas",
    "model.level_channels",
    "model.level_widths",
    "model.levels",
    "model.optimizer.betas",
    "model.penalty_options.betas",
    "model.penalty_options.widths",
    "model.quantizer_options.levels",
    "model.scheduler.milestones",
    "model.widths",
    "trainer.devices",
}
"""Settings whose values are lists: [400,200] is one value, [[400],[400,200]] are two.

Not model.categories, a number in ``categorical_vae``: the list of ``joint_vae`` needs a second pair of brackets.
"""

UNAVAILABLE = {
    "model": "a benchmark trains several; write models=[ae,vae]",
    "seed": "a benchmark takes several; write seeds=[0,1,2]",
    "run_dir": "a benchmark names its run folders itself; write out=DIR",
    "resume": "a benchmark resumes when its command is run again",
    "hydra": "a benchmark does not use Hydra's launchers; see launcher=",
    "sweep": "a benchmark does not use Hydra's launchers; see launcher=",
    "evaluation": "a benchmark evaluates all its runs in the same way; write evaluate.quick=true or evaluate.k=100",
    "benchmark": "write its settings on the command line as they are",
}


GROUPS = ("model", "data", "trainer", "callbacks", "logger")
"""Groups of settings that may depend on others."""

LAUNCHERS = ("local", "submitit_slurm", "ray")
"""Runs are processes on this machine, SLURM jobs or Ray tasks."""

CONDITION = re.compile(r" if ([A-Za-z_][\w./]*=[^\s'\"]+)$")
"""The end of a setting for some runs only: `model.quantizer_options={bits: 9} if model.quantizer=lfq`."""

EVALUATED_LATER = ("evaluation=none",)
"""Override for training: runs are evaluated after all are trained, so that evaluation does not affect their cost."""


@dataclass(frozen=True)
class Setting:
    """An argument of the command line: its key, and one Hydra override per value.

    ``condition`` is the override of the runs that it is for, such as `model.quantizer=lfq`; empty for all.
    """

    key: str
    overrides: tuple[str, ...]
    is_list: bool
    condition: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        """The values as written."""
        return tuple(override.partition("=")[2] for override in self.overrides)


@dataclass(frozen=True)
class Request:
    """The parsed command line.

    ``evaluate`` and ``compare`` are arguments of ``vaezoo evaluate`` and ``compare``, ``settings`` those of training.

    ``jobs`` is None if not given; ``launcher_settings`` are the ``launcher.`` settings; ``own`` are the user's config
    folder and packages.
    """

    models: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    jobs: int | None
    evaluate: tuple[str, ...]
    compare: tuple[str, ...]
    settings: tuple[Setting, ...]
    launcher: str = "local"
    launcher_settings: dict[str, Any] = field(default_factory=dict)
    own: UserCode = field(default_factory=UserCode)


@dataclass(frozen=True)
class Cell:
    """One run: the name of its folder, the arguments of ``vaezoo train``, and the composed config."""

    name: str
    overrides: tuple[str, ...]
    config: dict[str, Any]


def read(words: Sequence[str]) -> Request:
    """Parse the command line; ConfigError for settings that a benchmark does not have."""
    settings: dict[str, Setting] = {}
    added, own = user_code.parse(words)
    words = [*_of_preset(own, added), *own]
    launcher = _for_launcher(words)
    for word in [word for word in words if not word.startswith("launcher.")]:
        setting = read_setting(word)
        for name in [name for name, other in settings.items() if _replaces(setting, other)]:
            settings.pop(name)  # the last one wins, and determines the order
        settings[f"{setting.key} if {setting.condition}" if setting.condition else setting.key] = setting
    _refuse_unmet([read_setting(word) for word in own if CONDITION.search(word)], settings)
    models = _several(settings.pop("models", None), "models=[ae,vae]")
    seeds = _several(settings.pop("seeds", Setting("seeds", ("seeds=0", "seeds=1", "seeds=2"), True)), "seeds=[0,1,2]")
    out, jobs = settings.pop("out", None), settings.pop("jobs", None)
    name = ",".join(settings.pop("launcher", Setting("launcher", ("launcher=local",), False)).values)
    one_of(name, LAUNCHERS, "launcher")
    if launcher and name == "local":
        raise ConfigError(
            f"launcher.{next(iter(launcher))} applies only to a cluster; add launcher=submitit_slurm or ray"
        )
    if out is None or not out.values[0]:
        raise ConfigError("a benchmark needs a folder for its runs; write out=DIR")
    return Request(
        models=models,
        seeds=tuple(_integer(seed, "seeds", 0) for seed in seeds),
        out=paths.folder(out.values[0], "out"),
        jobs=None if jobs is None else _integer(",".join(jobs.values), "jobs", 1),
        evaluate=tuple(_for_command("evaluate.", settings)),
        compare=tuple(_for_comparison(settings)),
        settings=tuple(settings.values()),
        launcher=name,
        launcher_settings=launcher,
        own=added,
    )


def read_setting(word: str) -> Setting:
    """Parse one argument. A list means several values, unless the setting itself takes lists (see ``LIST_VALUED``).

    ``key=[1,4]``, ``key=1,4`` and ``key=range(1,5)`` give several values; in a list of lists, each inner list is one.
    """
    if word.startswith("-"):
        raise ConfigError(f"a benchmark has no option {word}; write settings such as models=[ae,vae] jobs=2")
    if found := CONDITION.search(word):
        return _conditional(read_setting(word[: found.start()]), found[1])
    if word.startswith("out="):  # Hydra's grammar does not allow every path
        return Setting("out", (word,), False)
    (override,) = OverridesParser.create().parse_overrides([word])
    key, value = str(override.key_or_group), override.value()
    if reason := UNAVAILABLE.get(re.split("[./]", key)[0] if key.startswith(("hydra", "benchmark")) else key):
        raise ConfigError(f"{key}= cannot be set here: {reason}")
    head, _, text = word.partition("=")
    if override.is_sweep_override():
        return Setting(key, tuple(f"{head}={each}" for each in override.sweep_string_iterator()), True)
    nested = isinstance(value, list) and any(isinstance(each, list) for each in value)
    if not isinstance(value, list) or (key in LIST_VALUED and not nested):
        return Setting(key, (word,), False)
    if not value:
        raise ConfigError(f"{key} has no value; write at least one between the brackets")
    inner = text.strip()[1:-1]
    if len(value) == 1:
        return Setting(key, (f"{head}={inner}",), True)
    return read_setting(f"{head}={inner}")


def _conditional(setting: Setting, condition: str) -> Setting:
    """A setting of training for the runs that have another setting; ConfigError if it is no such setting."""
    if setting.is_list or re.split("[./]", setting.key)[0] not in GROUPS:
        raise ConfigError(
            f"{setting.key} cannot depend on {condition}: only settings of {', '.join(GROUPS)} with one value can"
        )
    return replace(setting, condition=condition)


def _replaces(new: Setting, old: Setting) -> bool:
    return new.key == old.key and new.condition in ("", old.condition)


def _refuse_unmet(conditional: Sequence[Setting], settings: Mapping[str, Setting]) -> None:
    """ConfigError for a condition that no run fulfils, such as one with a mistyped name."""
    for setting in conditional:
        key, _, value = setting.condition.partition("=")
        other = settings.get("models" if key == "model" else key)
        if other is None or value not in other.values:
            values = "not set for this benchmark" if other is None else f"only {', '.join(other.values)}"
            raise ConfigError(f"{setting.overrides[0]} applies to no run, because {key} is {values}, not {value}")


def read_cells(request: Request) -> list[Cell]:
    """All runs, column by column, with their composed configs; raises for the first invalid setting."""
    with user_code.composing(request.own.config_dir):
        experiment = [setting.overrides[0] for setting in request.settings if setting.key == "experiment"]
        plain = {model: _compose([f"model={model}", *experiment]) for model in request.models}
        cells = [cell for model in request.models for cell in _cells_of(model, request, plain)]
    doubled = [name for name, count in Counter(cell.name for cell in cells).items() if count > 1]
    if doubled:
        raise ConfigError(f"two columns of the benchmark would both be called {doubled[0]}; give each value once")
    refuse_no_end([cell.config for cell in cells])
    refuse_unequal_steps([cell.config for cell in cells])
    return cells


def _cells_of(model: str, request: Request, plain: dict[str, DictConfig]) -> Iterator[Cell]:
    """The runs of one model, without settings that only other models have."""
    settings = [setting for setting in request.settings if _applies_to(setting, model, plain)]
    names = _short_names([setting.key for setting in request.settings if setting.is_list])
    always = [setting for setting in settings if not setting.condition]
    for values in itertools.product(*(setting.overrides for setting in always)):
        chosen = dict(zip(always, values, strict=True))
        fulfilled = {"", f"model={model}", *values}
        mine = [each for each in settings if each.condition in fulfilled]
        last = {each.key: each for each in mine}
        choice = [chosen.get(each, each.overrides[0]) for each in mine if last[each.key] is each]
        column = _compose([f"model={model}", *choice, *EVALUATED_LATER])
        constant = [*EVALUATED_LATER, *(["~benchmark"] if "benchmark" in column else [])]
        varied = [
            f"{names[setting.key]}_{_as_name(override.partition('=')[2])}"
            for setting, override in chosen.items()
            if setting.is_list
        ]
        for seed in request.seeds:
            name = "-".join([model, *varied, f"seed_{seed}"])
            words = (*request.own.words, f"model={model}", *choice, *constant, f"seed={seed}")
            yield Cell(name, words, _resolve(column, seed, request.out / name))


def _applies_to(setting: Setting, model: str, plain: dict[str, DictConfig]) -> bool:
    """Whether a model has a setting; True for settings that no model has, so that composing them raises."""
    if not setting.key.startswith("model.") or setting.overrides[0].startswith(("+", "~")):
        return True
    having = [name for name, cfg in plain.items() if _has(cfg, setting.key)]
    return model in having or not having


def _has(cfg: DictConfig, key: str) -> bool:
    within, _, name = key.rpartition(".")
    parent = OmegaConf.select(cfg, within)
    return isinstance(parent, DictConfig) and name in parent


def _compose(overrides: Iterable[str]) -> DictConfig:
    return compose("train", overrides=[*overrides, "run_dir=RUN_DIR"])


def _resolve(column: DictConfig, seed: int, run_dir: Path) -> dict[str, Any]:
    cfg = column.copy()
    cfg.seed, cfg.run_dir = seed, str(run_dir)
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    resolved.pop("benchmark", None)
    automatic.resolve(resolved)
    return dict(resolved)


def _of_preset(words: Sequence[str], added: UserCode) -> list[str]:
    """The arguments under ``benchmark`` in the experiment's yaml."""
    chosen = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    path = added.file("experiment", chosen[-1]) if chosen else None
    preset: Any = {} if path is None else OmegaConf.load(path)
    return [str(word) for word in preset.get("benchmark") or []]


def _several(setting: Setting | None, example: str) -> tuple[str, ...]:
    name = example.partition("=")[0]
    if setting is None:
        raise ConfigError(f"a benchmark needs its {name}; write {example}")
    if not setting.is_list and name == "seeds":  # seeds=3 could be three seeds, or the third
        raise ConfigError(f"{name} must be a list, as in {example}, got {setting.values[0]}")
    if len(set(setting.values)) < len(setting.values):
        raise ConfigError(f"{name} has a value twice: {', '.join(setting.values)}")
    return setting.values


def _for_command(prefix: str, settings: dict[str, Setting]) -> Iterator[str]:
    """Remove settings such as ``evaluate.k`` from ``settings`` and yield them as arguments of that command."""
    for key in [key for key in settings if key.startswith(prefix)]:
        setting = settings.pop(key)
        if len(setting.overrides) > 1:
            raise ConfigError(f"{key} must be one value, so that all runs are measured in the same way, got several")
        yield setting.overrides[0].removeprefix(prefix)


@dataclass(frozen=True)
class Comparison:
    """Options of ``vaezoo compare`` that a benchmark passes on."""

    pdf: bool = True
    explore: bool = False


def _for_comparison(settings: dict[str, Setting]) -> list[str]:
    """Remove the ``compare.`` settings, and ``explore``, from ``settings``.

    ConfigError, before training, for one that does not exist.
    """
    words = list(_for_command("compare.", settings))
    if (explore := settings.pop("explore", None)) is not None:
        words.append(explore.overrides[0])
    arguments.read(words, Comparison, prefix="compare.")
    return words


def _for_launcher(words: Sequence[str]) -> dict[str, Any]:
    """The ``launcher.`` settings by name; a list is one value."""
    own = [word for word in words if word.startswith("launcher.")]
    overrides = OverridesParser.create().parse_overrides(own)
    return {str(each.key_or_group).partition(".")[2]: each.value() for each in overrides}


def _integer(text: str, key: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
        raise ConfigError(f"{key} must be a whole number of at least {least}, got {text}")
    return int(text)


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or the whole key if it would be ambiguous."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {key: (short if last[short := key.rpartition(".")[2]] == 1 else key) for key in keys}


def _as_name(value: str) -> str:
    """A value as part of a folder name, without characters that are special to a shell, Hydra or a file system."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", value).strip("_") or "empty"
