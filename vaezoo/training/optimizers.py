"""Optimisers and learning-rate schedules created from plain settings."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_arguments, did_you_mean
from vaezoo.config.validation import parameters as parameters_of

LIGHTNING_KEYS = ("interval", "frequency", "monitor")
"""Settings of a schedule that Lightning reads; the others are passed to torch."""

CRITIC = "critic"
"""Name of the parameter group of critics."""

TRIAL_STEPS = 3
"""Trial steps that ``check_settings`` takes."""


def check_settings(optimizer: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> None:
    """ConfigError for settings that torch cannot train with, found by trial steps on a small matrix and a vector."""
    with torch.device("cpu"):  # the model may be under construction on the meta device, where Adam of torch 2.6 fails
        _take_trial_steps(optimizer, scheduler)


def _take_trial_steps(optimizer: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> None:
    weights = [Parameter(torch.zeros(2, 2)), Parameter(torch.zeros(2))]
    trial = make_optimizer(weights, optimizer, fused=False)
    if trial.param_groups[0]["lr"] <= 0:
        raise ConfigError(f"model.optimizer.lr must be above 0, got {trial.param_groups[0]['lr']}")
    schedule = None if scheduler is None else make_scheduler(trial, scheduler, total_steps=TRIAL_STEPS + 1)
    for _ in range(TRIAL_STEPS):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        _try_step("model.optimizer", trial, lambda: trial.step(lambda: torch.ones(())))  # type: ignore[arg-type, return-value]
        if schedule is not None:
            _step(schedule)
        if not 0 <= (rate := float(trial.param_groups[0]["lr"])) < math.inf:
            raise ConfigError(f"model.scheduler gives a learning rate of {rate}; it must not fall below 0")


def _step(schedule: Mapping[str, Any]) -> None:
    made, plateau = schedule["scheduler"], schedule["reduce_on_plateau"]
    _try_step("model.scheduler", made, lambda: made.step(1.0) if plateau else made.step())


def _try_step(key: str, made: Any, step: Callable[[], Any]) -> None:
    """Take a step; ConfigError with torch's message if it fails."""
    try:
        step()
    except Exception as error:  # torch raises many types
        raise ConfigError(f"{key} cannot train with {type(made).__name__}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


Groups = Iterable[Parameter] | list[dict[str, Any]]
"""Parameters of an optimiser, or groups of them, each with its ``params``, its ``name`` and settings of its own."""


def parameter_groups(model: nn.Module, critics: Mapping[str, Mapping[str, Any]]) -> Groups:
    """A model's parameters; those of each critic, a submodule by its name, are a further group with its settings.

    Gradients of model and critics are kept apart, so that one step with several groups equals as many optimisers that
    step at the same time. Settings that a critic does not have are the model's.
    """
    if not critics:
        return model.parameters()
    theirs = [list(model.get_submodule(name).parameters()) for name in critics]
    known = {id(parameter) for group in theirs for parameter in group}
    own = [parameter for parameter in model.parameters() if id(parameter) not in known]
    named = zip(theirs, settings_by_group(critics).items(), strict=True)
    return [
        {"params": own, "name": "model"},
        *({"params": group, "name": name, **settings} for group, (name, settings) in named),
    ]


def settings_by_group(critics: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The settings of critics by the names of their groups: ``critic``, or ``critic_of_PART`` if there are several."""
    if len(critics) == 1:
        return dict.fromkeys((CRITIC,), *critics.values())
    return {f"{CRITIC}_of_{name.partition('.')[0]}": settings for name, settings in critics.items()}


def make_optimizer(parameters: Groups, settings: Mapping[str, Any], *, fused: bool) -> Optimizer:
    """The class of ``torch.optim`` called ``settings["name"]``, with the other settings as its arguments.

    ``fused`` selects the fused implementation if there is one and the settings set neither ``fused`` nor ``foreach``.
    ConfigError for an unknown name or argument.
    """
    cls, arguments = _split(torch.optim, settings, "model.optimizer", Optimizer)
    groups = parameters if isinstance(parameters, list) else []
    for group in (group for group in groups if isinstance(group, dict)):
        own = {key: value for key, value in group.items() if key not in ("params", "name")}
        if own:
            check_arguments(cls, own, key=f"the {group['name']}'s optimiser, {settings['name']}", extra=("params",))
    if fused and "fused" in parameters_of(cls) and "foreach" not in arguments:
        arguments.setdefault("fused", True)
    optimizer: Optimizer = _make("model.optimizer", cls, parameters, **arguments)
    return optimizer


def make_scheduler(optimizer: Optimizer, settings: Mapping[str, Any], total_steps: int) -> dict[str, Any]:
    """The class of ``torch.optim.lr_scheduler`` called ``settings["name"]``, in the format of Lightning.

    The value ``total_steps`` is replaced by the number of optimiser steps of the whole run. ``interval`` defaults to
    ``step``, or to ``epoch`` for ReduceLROnPlateau, which watches ``monitor``. ConfigError for an unknown name or
    argument.
    """
    cls, arguments = _split(torch.optim.lr_scheduler, _for_torch(settings, total_steps), "model.scheduler", LRScheduler)
    plateau = cls is ReduceLROnPlateau
    chosen = {key: settings[key] for key in LIGHTNING_KEYS if settings.get(key) is not None}
    defaults = {"interval": "epoch" if plateau else "step", "monitor": "val/loss", "reduce_on_plateau": plateau}
    if {**defaults, **chosen}["interval"] not in ("step", "epoch"):
        raise ConfigError(f"model.scheduler.interval must be step or epoch, got {chosen['interval']!r}")
    return {"scheduler": _make("model.scheduler", cls, optimizer, **arguments), **defaults, **chosen}


def adapt(checkpoint: dict[str, Any], settings: Mapping[str, Any], critics: Mapping[str, Mapping[str, Any]]) -> None:
    """Put changed optimiser settings into a checkpoint, whose saved ones would otherwise override them on resume.

    The groups of critics have settings of their own, by the name of the group, and follow ``settings`` in all others. A
    schedule continues in proportion to the new learning rate.
    """
    before = checkpoint.get("hyper_parameters", {}).get("optimizer") or {}
    critics_before = checkpoint.get("critics", critics)
    schedules = checkpoint.get("lr_schedulers") or []
    for state in checkpoint.get("optimizer_states", []):
        for number, group in enumerate(state["param_groups"]):
            own, name = group.get("name") in critics, group.get("name")
            was = {**before, **critics_before.get(name, critics[name])} if own else before
            now = {**settings, **critics[name]} if own else settings
            changed = {key: value for key, value in now.items() if key in group and key in was and was[key] != value}
            if schedules and "lr" in changed:
                _scale(group, schedules, number, changed.pop("lr") / was["lr"])
            group |= changed


def _scale(group: dict[str, Any], schedules: Iterable[dict[str, Any]], number: int, ratio: float) -> None:
    """Scale the learning rates of a parameter group, and those that schedules keep for it."""
    group |= {key: group[key] * ratio for key in ("lr", "initial_lr") if key in group}
    for schedule in schedules:
        for key in ("base_lrs", "_last_lr"):
            if key in schedule:
                schedule[key] = [rate * ratio if at == number else rate for at, rate in enumerate(schedule[key])]


def _for_torch(settings: Mapping[str, Any], total_steps: int) -> dict[str, Any]:
    """A schedule's settings without Lightning's keys, and with ``total_steps`` filled in."""
    plain = {key: value for key, value in settings.items() if key not in LIGHTNING_KEYS}
    return {key: total_steps if value == "total_steps" else value for key, value in plain.items()}


def _split(module: Any, settings: Mapping[str, Any], key: str, base: type) -> tuple[Any, dict[str, Any]]:
    """The class that ``settings`` name and its arguments, checked against its signature."""
    arguments = {name: value for name, value in settings.items() if name != "name"}
    name = str(settings.get("name"))
    classes = {name: cls for name, cls in vars(module).items() if isinstance(cls, type) and issubclass(cls, base)}
    known = [name for name, cls in classes.items() if cls is not base]
    if name not in known:
        raise ConfigError(f"{key}.name must be a class of {module.__name__}, got {name!r}; {did_you_mean(name, known)}")
    check_arguments(classes[name], arguments, key=key, extra=("params", "optimizer"))
    return classes[name], arguments


def _make(key: str, cls: Any, *arguments: Any, **settings: Any) -> Any:
    """Create an instance; ConfigError with torch's message if that fails."""
    try:
        return cls(*arguments, **settings)
    except Exception as error:  # torch raises many types
        raise ConfigError(f"{key} does not suit {cls.__name__}: {_one_line(error)}") from error


def example_states(
    parameters: Groups, settings: Mapping[str, Any], scheduler: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Example states of optimiser and schedule after one step, as in a checkpoint, with parameters of one element.

    ``shapes`` holds the shapes of the real parameters. Integer settings become floats, because a resumed run may set
    any number.
    """
    groups: list[Any] = parameters if isinstance(parameters, list) else [{"params": list(parameters)}]
    shapes = [parameter.shape for group in groups for parameter in group["params"]]
    trial = make_optimizer([group | {"params": _small(group["params"])} for group in groups], settings, fused=False)
    schedules = [make_scheduler(trial, scheduler, total_steps=100)["scheduler"].state_dict()] if scheduler else []
    for parameter in (parameter for group in trial.param_groups for parameter in group["params"]):
        parameter.grad = torch.zeros_like(parameter)
    trial.step()
    state = trial.state_dict()
    groups = [{name: _as_number(value) for name, value in group.items()} for group in state["param_groups"]]
    example = {"state": state["state"], "param_groups": groups, "shapes": dict(enumerate(shapes))}
    return {"optimizer_states": [example], "lr_schedulers": schedules}


def _small(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Parameters of one element with as many dimensions."""
    return [Parameter(torch.zeros([1] * parameter.dim())) for parameter in parameters]


def _as_number(value: Any) -> Any:
    return float(value) if type(value) is int else value
