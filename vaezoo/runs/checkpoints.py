"""Reading of checkpoint files without executing code in them, and checks against what this version writes."""

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaezoo.config.errors import RunError
from vaezoo.config.reading import check_plain

if TYPE_CHECKING:
    from torch import Tensor

RESUMABLE = ("last", "previous")
"""Names of the checkpoints that training can resume from, newest first."""

MOST_PICKLED = 2**26
"""Maximum bytes of a checkpoint's pickled part, without tensors."""

MODEL: dict[str, Any] = {"model_class": "", "hyper_parameters": {}, "state_dict": {}}
"""Example of the entries needed to restore the model: names and types."""

TRAINING: dict[str, Any] = {
    "epoch": 0,
    "global_step": 0,
    "pytorch-lightning_version": "",
    "loops": {"fit_loop": {}},
    "callbacks": {},
    "optimizer_states": [{"state": {}, "param_groups": [{}]}],
    "lr_schedulers": [],
    "skipped_steps": {"skipped": 0, "in_a_row": 0},
    "training_sums": [{"totals": {}, "count": 0}],
    "random_states": [[]],
    "record": {},
}
"""Example of the further entries needed to resume training."""


# reading -------------------------------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file; RunError if it is damaged or not a vaezoo checkpoint."""
    import torch

    try:
        check_archive(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{path} is damaged or not a checkpoint: {reason}") from error
    _refuse_mismatch(path, content, MODEL)
    check_plain(dict(content["hyper_parameters"]), str(path))
    _check_weights(path, content["state_dict"])
    return dict(content)


def last_good(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    """Path and content of the newest intact checkpoint: ``last``, or ``previous`` if that is damaged.

    RunError if neither is intact.
    """
    found = [path for path in (run_dir / "checkpoints" / f"{name}.ckpt" for name in RESUMABLE) if path.is_file()]
    if not found:
        raise RunError(f"{run_dir} has no last checkpoint; choose another run or train it again")
    problems = []
    for path in found:
        try:
            return path, _whole(path)
        except RunError as error:
            problems.append(str(error))
    raise RunError(f"{'; and '.join(problems)}; train the run again in another run_dir")


def check_archive(path: Path) -> None:
    """ValueError unless a file is an archive as torch writes it: uncompressed, and no larger in memory than on disk."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch's files are not")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it declares more data than it contains")
    if sum(member.file_size for member in members if member.filename.endswith(".pkl")) > MOST_PICKLED:
        raise ValueError("it contains more settings than a model can have")


def _check_weights(path: Path, weights: Mapping[str, Any]) -> None:
    """RunError unless weights are finite tensors that need no more bytes than their file has."""
    from torch import Tensor

    if not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise RunError(f"{path} is damaged: its state_dict contains values that are not tensors")
    if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > path.stat().st_size:
        raise RunError(f"{path} is damaged: its weights declare more bytes than the file has")
    for name, tensor in weights.items():
        if not _is_finite(tensor):
            raise RunError(f"{path} contains weights that are not finite ({name})")


def _is_finite(tensor: "Tensor") -> bool:
    import torch

    return bool(torch.isfinite(tensor).all())


def _whole(path: Path) -> dict[str, Any]:
    """The content of a checkpoint to resume from, with all checksums verified; RunError for any other file."""
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile, zlib and struct raise many types for a damaged archive
        raise RunError(f"{path} is damaged or not a checkpoint: {' '.join(str(error).split())}") from error
    if damaged is not None:
        raise RunError(f"{path} is damaged: the checksum of {damaged} is wrong")
    content = read(path)
    _refuse_mismatch(path, content, TRAINING)
    _check_random_states(path, content["random_states"])
    _check_record(path, content["record"])
    return content


def _check_random_states(path: Path, states: list[list[Any]]) -> None:
    import torch

    try:
        for generators in states:
            torch.Generator().set_state(generators[0])
    except (RuntimeError, TypeError, IndexError) as error:
        raise RunError(f"{path} is damaged: its random_states are not states of torch's generators") from error


def _check_record(path: Path, record: Mapping[str, Any]) -> None:
    """RunError unless the recorded lengths of metrics and events are non-negative integers."""
    events = record.get("events", {})
    sizes = [record.get("rows", 0), *(events.values() if isinstance(events, Mapping) else [events])]
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise RunError(f"{path} is damaged: its record of what was logged contains values that are not counts")


# against what this version writes ------------------------------------------------------------------------------------


def refuse_unfit(path: Path, content: Mapping[str, Any], example: Mapping[str, Any]) -> None:
    """RunError unless a checkpoint's training state has the structure that this run would save.

    ``example`` is what the run would save before its first step: ``loops``, ``callbacks``, ``lr_schedulers`` and,
    unless the model has custom optimisers, ``optimizer_states``.
    """
    optimizers = example.get("optimizer_states", ())
    _refuse_mismatch(path, content, {name: part for name, part in example.items() if part is not optimizers})
    loops = content["loops"]["fit_loop"]
    taken = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    taken += loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]
    if taken != content["global_step"]:
        raise RunError(f"{path} is damaged: it has global_step={content['global_step']}, but its loops counted {taken}")
    for name in ("optimizer_states", "lr_schedulers"):
        if name in example and len(content[name]) != len(example[name]):
            raise RunError(
                f"{path} is damaged: it contains {len(content[name])} {name}, but this run has {len(example[name])}"
            )
    for state, like in zip(content["optimizer_states"], optimizers, strict=False):
        _refuse_unfit_optimizer(path, state, like, content["global_step"])


def _refuse_unfit_optimizer(path: Path, state: Mapping[str, Any], example: Mapping[str, Any], step: int) -> None:
    """RunError unless an optimiser state after ``step`` steps matches the model's parameters."""
    kept, shapes = state["state"], example["shapes"]
    like = {**example, "state": {index: example["state"].get(index, {}) for index in kept}}
    del like["shapes"]
    _refuse_mismatch(path, {"optimizer_states": [state]}, {"optimizer_states": [like]})
    if kept.keys() - shapes.keys() or (example["state"] and step and not kept):
        raise RunError(f"{path} is damaged: its optimizer_states do not match the model's parameters")
    for index, values in kept.items():
        if wrong := [name for name, value in values.items() if not _is_state_of(value, shapes[index])]:
            raise RunError(f"{path} is damaged: {wrong[0]} of parameter {index} in optimizer_states does not fit it")


def _is_state_of(value: Any, shape: Sequence[int]) -> bool:
    """Whether an optimiser's value for a parameter of this shape is finite and broadcasts to the shape."""
    from torch import Tensor

    if not isinstance(value, Tensor):
        return True
    sizes = zip(reversed(value.shape), reversed(shape), strict=False)
    return value.dim() <= len(shape) and all(one in (1, size) for one, size in sizes) and _is_finite(value)


def _refuse_mismatch(path: Path, content: Any, example: Any) -> None:
    if problem := next(mismatches(content, example), None):
        raise RunError(f"{path} is not a checkpoint of this version of vaezoo: {problem}")


def mismatches(value: Any, example: Any, key: str = "") -> Iterator[str]:
    """Clauses such as ``epoch is -1`` for every place where a value does not have the structure of an example.

    Mappings need the example's keys and may have more. Lists of equal length are compared item by item; otherwise each
    item is compared with the example's first. Integers must be at least 0, or at least a negative example; floats must
    be finite unless the example is not. An empty mapping or list matches any, and None matches any value.
    """
    if isinstance(example, Mapping):
        yield from _mapping_mismatches(value, example, key)
    elif isinstance(example, list | tuple):
        yield from _list_mismatches(value, example, key)
    elif example is not None and not _is_alike(value, example):
        yield f"{key or 'it'} is {_shown(value)}"


def _mapping_mismatches(value: Any, example: Mapping[Any, Any], key: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{key or 'it'} is {_shown(value)}"
        return
    for name, child in example.items():
        place = f"{key}.{name}" if key else str(name)
        if name not in value:
            yield f"it has no {place}"
        else:
            yield from mismatches(value[name], child, place)


def _list_mismatches(value: Any, example: list[Any] | tuple[Any, ...], key: str) -> Iterator[str]:
    if not isinstance(value, list | tuple) or (example and not value):
        yield f"{key or 'it'} is {_shown(value)}"
        return
    paired = example if len(example) == len(value) else example[:1] * len(value)
    for place, (child, like) in enumerate(zip(value, paired, strict=False)):  # an empty example matches any items
        yield from mismatches(child, like, f"{key}.{place}" if key else str(place))


def _is_alike(value: Any, example: Any) -> bool:
    if isinstance(example, bool):
        return isinstance(value, bool)
    if isinstance(example, int):
        return type(value) is int and min(0, example) <= value < 2**63
    if isinstance(example, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (math.isfinite(value) or not math.isfinite(example))
    return isinstance(value, str) if isinstance(example, str) else isinstance(value, type(example))


def _shown(value: Any) -> str:
    """The repr of a short value; only the type of a long one."""
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
