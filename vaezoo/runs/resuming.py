"""What may differ when a run goes on, and whether a checkpoint is of its model. It makes no models and no trainers."""

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
"""The file in a run folder that says which settings were changed by force, and at which step."""

CHANGEABLE = ("trainer.", "callbacks.", "logger.", "figures.", "data.root", "data.num_workers", "stepping", "threads")
"""Settings that may differ when a run goes on begin so; any other would make it another experiment."""

TOLD = (
    "threads",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_algorithm",
    "trainer.gradient_clip_val",
    "trainer.limit_train_batches",
    "trainer.on_nonfinite",
    "trainer.overfit_batches",
    "trainer.precision",
)
"""Of those, settings that training depends on: they may differ, and that is recorded."""

GROUPS = ("model", "data", "trainer", "callbacks", "logger", "experiment")
"""Words that choose a whole yaml when a config is composed, which a resumed run's is already."""

STATEFUL = ("model.optimizer.name", "model.scheduler")
"""Settings whose state in a checkpoint would mean nothing under other ones."""


class Change(NamedTuple):
    """One setting that differs between two configs; None where a config has none of that name."""

    key: str
    was: Any
    now: Any


def override(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """A run's own config with what the command line changes in it."""
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
    """All settings in which two configs differ, but for those whose names begin with one of ``beside``."""
    one, other = (dict(flat(OmegaConf.to_container(cfg, resolve=True), whole=True)) for cfg in (was, now))
    keys = [key for key in {**one, **other} if not key.startswith((*beside, "run_dir", "resume"))]
    return [Change(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def take_chosen(was: Mapping[Any, Any] | DictConfig, now: Any) -> None:
    """Where ``data.range`` or ``threads`` of ``now`` is auto, set it to what the run with the config ``was`` chose."""
    for before, after, name in ((was.get("data") or {}, now.get("data") or {}, "range"), (was, now, "threads")):
        if after.get(name) == AUTO and name in before:
            after[name] = before[name]


def to_tell(was: DictConfig, now: DictConfig) -> list[Change]:
    """Changes that need no force, and are recorded all the same."""
    return [change for change in changes(was, now) if change.key in TOLD]


def in_words(found: Sequence[Change]) -> str:
    """Every change as ``key: was -> now``."""
    return ", ".join(f"{key}: {was!r} -> {now!r}" for key, was, now in found)


def refuse(found: Sequence[Change], run_dir: Path, *, force: bool) -> None:
    """RunError if settings were changed that make another experiment, unless by force and it can be."""
    if found and not force:
        raise RunError(
            f"{run_dir} would resume with another config ({in_words(found)}); resume.force=true resumes anyway and"
            " records the change; for another experiment, start a new run without resume="
        )
    fixed = [key for key, _, _ in found if key.startswith(STATEFUL)]
    if fixed:
        raise RunError(
            f"{' and '.join(fixed)} cannot change in a resumed run, because its state would not fit; start a new run"
        )


def refuse_in_an_epoch(found: Sequence[Change], content: Mapping[str, Any], path: Path) -> None:
    """RunError if data changed and a checkpoint was saved within an epoch, whose rest would be another one's."""
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
    """RunError if a checkpoint is of another class, shape or setting than the model that a run's config asks for.

    ``name`` and ``arguments`` are what the checkpoint holds; ``forced`` are settings that were changed on purpose.
    """
    asked: Any = OmegaConf.to_container(cfg, resolve=True)
    if not {"model", "data"} <= asked.keys():  # not as vaezoo writes it, and nothing to hold a checkpoint against
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
    """RunError if the weights of a checkpoint do not fit the model called ``name``, whatever is forced."""
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
    """Settings that were changed by force while the run went on: ``step``, ``key``, ``was``, ``now``; oldest first."""
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
    """Keep that settings were changed by force at this step, each once."""
    before = recorded(run_dir)
    new = [change for change in ({"step": step, **change._asdict()} for change in found) if change not in before]
    if new:
        write_text(run_dir / CHANGES, json.dumps([*before, *new], indent=1) + "\n")


def image_shape(path: Path, cfg: DictConfig, arguments: Mapping[str, Any]) -> list[int]:
    """Shape of the images of a run: its config's, or where that tells none, as data of the user's own need not, that of
    its checkpoint, which holds ``arguments``; RunError where that tells none either."""
    asked: Any = OmegaConf.to_container(cfg, resolve=True)
    shape = _image_shape(asked["data"]) or arguments.get("image_shape")
    if not (isinstance(shape, list | tuple) and len(shape) == 3 and all(type(side) is int for side in shape)):
        raise RunError(f"{path} contains no image_shape, and neither does the run's config; start a new run")
    return list(shape)


def _image_shape(data: Mapping[str, Any]) -> list[int] | None:
    """What data settings tell of the images' shape, None where they do not; RunError if it is no shape."""
    if not {"image_size", "channels"} <= data.keys():
        return None
    size, channels = data["image_size"], data["channels"]
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(number) is int for number in (channels, *sides)):
        raise RunError(
            f"the run's config has data.image_size={size!r} and data.channels={channels!r}, which do not give the"
            " shape of images; put the run's own config.yaml back"
        )
    return [channels, *sides]
