"""Which settings may change when a run resumes, and whether a checkpoint fits the run's model."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vaezoo.config.automatic import AUTO
from vaezoo.config.errors import RunError
from vaezoo.config.reading import MOST_JSON, flat, plain, read_text
from vaezoo.runs.files import write_text

CHANGES = "changes.json"
"""File in the run folder with the settings that were changed on resume, and the step of each change."""

CHANGEABLE = ("trainer.", "callbacks.", "logger.", "figures.", "data.root", "data.num_workers", "stepping", "threads")
"""Prefixes of the settings that may change when a run resumes; any other change makes it another experiment."""

RECORDED = (
    "threads",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_algorithm",
    "trainer.gradient_clip_val",
    "trainer.limit_train_batches",
    "trainer.on_nonfinite",
    "trainer.overfit_batches",
    "trainer.precision",
)
"""Those of them that affect the result of training: they may change, and the change is recorded."""

GROUPS = ("model", "data", "trainer", "callbacks", "logger", "experiment")
"""Config groups, which cannot be chosen again because the config of a resumed run is already composed."""

STATEFUL = ("model.optimizer.name", "model.scheduler")
"""Settings that cannot change, because their state in a checkpoint would not fit."""


class Change(NamedTuple):
    """A setting that differs between two configs; None where a config does not have it."""

    key: str
    was: Any
    now: Any


def override(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """A run's config with the overrides of the command line applied.

    RunError for an override that chooses a config group or sets run_dir, resume or hydra.
    """
    OmegaConf.set_struct(cfg, True)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = str(override.key_or_group)
        group = override.key_or_group in GROUPS and not isinstance(override.value(), dict)
        if group or key in ("run_dir", "resume") or key.startswith("hydra"):
            raise RunError(
                f"a resumed run keeps its config, so {key} cannot be replaced; change single settings (those of"
                " trainer, callbacks and logger, and data.root, freely), or start a new run without resume= for"
                f" {override.input_line}"
            )
        OmegaConf.update(cfg, key, override.value(), force_add=override.is_add())
    OmegaConf.set_struct(cfg, False)
    return cfg


def changes(was: DictConfig, now: DictConfig, *, beside: Sequence[str] = ()) -> list[Change]:
    """All settings that differ between two configs, except those with a prefix in ``beside``."""
    one, other = (dict(flat(OmegaConf.to_container(cfg, resolve=True), whole=True)) for cfg in (was, now))
    keys = [key for key in {**one, **other} if not key.startswith((*beside, "run_dir", "resume"))]
    return [Change(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def take_chosen(was: Mapping[Any, Any] | DictConfig, now: Any) -> None:
    """Replace what a run's config ``was`` chose where ``now`` leaves it open.

    These are ``data.range=auto``, ``threads=auto``, ``model.classes=null``, ``data.image_size=null`` and
    ``data.channels=null``.
    """
    for before, after, name in ((was.get("data") or {}, now.get("data") or {}, "range"), (was, now, "threads")):
        if after.get(name) == AUTO and name in before:
            after[name] = before[name]
    for group, names in (("model", ("classes",)), ("data", ("image_size", "channels"))):
        before, after = was.get(group) or {}, now.get(group) or {}
        for name in names:
            if name in before and name in after and after[name] is None:
                after[name] = before[name]


def recorded_freely(was: DictConfig, now: DictConfig) -> list[Change]:
    """Changes that need no force but are recorded."""
    return [change for change in changes(was, now) if change.key in RECORDED]


def describe(found: Sequence[Change]) -> str:
    """Every change as text: ``key: was -> now``."""
    return ", ".join(f"{key}: {was!r} -> {now!r}" for key, was, now in found)


def refuse(found: Sequence[Change], run_dir: Path, *, force: bool) -> None:
    """RunError if there are changes and no ``force``, or changes that cannot be forced."""
    if found and not force:
        raise RunError(
            f"{run_dir} would resume with another config ({describe(found)}); resume.force=true resumes anyway and"
            " records the change; for another experiment, start a new run without resume="
        )
    fixed = [key for key, _, _ in found if key.startswith(STATEFUL)]
    if fixed:
        raise RunError(
            f"{' and '.join(fixed)} cannot change in a resumed run, because its state would not fit; start a new run"
        )


def refuse_in_an_epoch(found: Sequence[Change], content: Mapping[str, Any], path: Path) -> None:
    """RunError if data settings changed and the checkpoint was saved within an epoch, which would mix two orders."""
    progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress", {})
    within = progress.get("current", {}).get("ready", 0) > 0 and not progress.get("is_last_batch", True)
    data = [key for key, _, _ in found if key.startswith("data.")]
    if data and within:
        raise RunError(
            f"{' and '.join(data)} cannot change, because {path} was saved within an epoch; resume without this"
            " change, or start a new run"
        )


def refuse_other_model(
    path: Path, cfg: DictConfig, name: str, arguments: Mapping[str, Any], forced: Collection[str] = ()
) -> None:
    """RunError if a checkpoint's model class or arguments differ from those of the run's config.

    ``name`` and ``arguments`` are the checkpoint's; settings in ``forced`` were changed on purpose and may differ.
    """
    asked: Any = OmegaConf.to_container(cfg, resolve=True)
    if not {"model", "data"} <= asked.keys():  # not written by vaezoo, so there is nothing to compare with
        return
    model, data = asked["model"], asked["data"]
    if not (isinstance(model, dict) and isinstance(model.get("_target_"), str) and isinstance(data, dict)):
        raise RunError(
            f"{path} cannot be checked against the run's config, whose model or data is not a class with settings; put"
            " the run's own config.yaml back"
        )
    wanted = {key: value for key, value in model.items() if not str(key).startswith("_")}
    wanted |= {"image_shape": shape} if (shape := _image_shape(data)) else {}
    changed = {key.split(".")[1] for key in forced if key.startswith("model.")}
    differing = [
        key
        for key, value in wanted.items()
        if key in arguments and key not in changed and plain(arguments[key]) != plain(value)
    ]
    ours = model["_target_"].rpartition(".")[2]
    if differing or (name != ours and "_target_" not in changed):
        there, here = (
            ", ".join(f"{key}={plain(values[key])!r}" for key in differing) for values in (arguments, wanted)
        )
        raise RunError(
            f"{path} is of another model than the run's config: {name}{f' with {there}' if there else ''} in the"
            f" checkpoint, {ours}{f' with {here}' if here else ''} in the config; put the run's own checkpoint back,"
            " or start a new run"
        )


def refuse_other_weights(
    path: Path, name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], found: Sequence[Change] = ()
) -> None:
    """RunError if names or shapes of a checkpoint's weights ``theirs`` differ from those of the model, ``ours``."""
    keys = [key for key in {**ours, **theirs} if key not in ours or key not in theirs]
    keys += [key for key in ours if key in theirs and ours[key].shape != theirs[key].shape]
    if keys:
        shapes = (
            f"of shape {list(weights[keys[0]].shape)}" if keys[0] in weights else "none" for weights in (theirs, ours)
        )
        blame = f" with {', '.join(f'{key}={now!r}' for key, _, now in found)}" if found else ""
        raise RunError(
            f"the weights in {path} do not fit {name}{blame}: {keys[0]} is {next(shapes)} in the checkpoint and"
            f" {next(shapes)} in the model; the network of a resumed run cannot change, so start a new run without"
            " resume="
        )


def recorded(run_dir: Path) -> list[dict[str, Any]]:
    """The recorded changes of settings, oldest first: ``step``, ``key``, ``was``, ``now``. RunError if unreadable."""
    path = run_dir / CHANGES
    if not path.is_file():
        return []
    try:
        found = json.loads(read_text(path, MOST_JSON))
        sound = isinstance(found, list) and all(each.keys() == {"step", *Change._fields} for each in found)
    except (ValueError, RecursionError, AttributeError) as error:
        raise RunError(f"{path} cannot be read: {error}; repair it, or remove it to forget the changes") from error
    if not sound or not all(isinstance(each["key"], str) for each in found):
        raise RunError(f"{path} cannot be read: it is not a list of changes; remove it to forget them")
    return list(found)


def record(run_dir: Path, step: int, found: Sequence[Change]) -> None:
    """Append changes of settings at this step to changes.json, without duplicates."""
    before = recorded(run_dir)
    new = [change for change in ({"step": step, **change._asdict()} for change in found) if change not in before]
    if new:
        write_text(run_dir / CHANGES, json.dumps([*before, *new], indent=1) + "\n")


def image_shape(path: Path, cfg: DictConfig, arguments: Mapping[str, Any]) -> list[int]:
    """The image shape in a run's config, or in the model ``arguments`` of its checkpoint, since a user's own data
    module need not have that setting; RunError if neither contains it."""
    asked: Any = OmegaConf.to_container(cfg, resolve=True)
    shape = _image_shape(asked["data"]) or arguments.get("image_shape")
    if not (isinstance(shape, list | tuple) and len(shape) == 3 and all(type(side) is int for side in shape)):
        raise RunError(f"{path} contains no image_shape, and neither does the run's config; start a new run")
    return list(shape)


def _image_shape(data: Mapping[str, Any]) -> list[int] | None:
    """The image shape in data settings; None if they do not contain it, RunError if it is invalid."""
    if not {"image_size", "channels"} <= data.keys():
        return None
    if data.get("source") == "table":
        return [1, 1, len(data["columns"])] if isinstance(data.get("columns"), list) else None
    size, channels = data["image_size"], data["channels"]
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(number) is int for number in (channels, *sides)):
        raise RunError(
            f"the run's config has data.image_size={size!r} and data.channels={channels!r}, which do not give the"
            " shape of images; put the run's own config.yaml back"
        )
    return [channels, *sides]
