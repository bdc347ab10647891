"""Checks that the runs of a benchmark take equal numbers of optimiser steps."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vaezoo.config.errors import ConfigError

DECIDES_STEPS = (
    "data.limit",
    "data.batch_size",
    "data.drop_last",
    "data.val_size",
    "data.test_size",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
    "trainer.accumulate_grad_batches",
    "trainer.fast_dev_run",
)
"""Settings that change the number of optimiser steps per epoch."""


def refuse_unequal_steps(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError if runs on the same data would take unequal numbers of steps.

    Different values of trainer.max_epochs or trainer.max_steps are allowed: only runs with equal values are checked.
    """
    for cfg in configs:
        if cfg["trainer"]["max_time"] is not None:
            raise ConfigError(
                "trainer.max_time would end runs after unequal numbers of steps; set trainer.max_steps=N instead"
            )
    for group in _groups(configs):
        differing = [key for key in DECIDES_STEPS if any(_at(cfg, key) != _at(group[0], key) for cfg in group)]
        by_steps = group[0]["trainer"]["max_steps"] > 0 and group[0]["trainer"]["max_epochs"] == -1
        if differing and not by_steps:
            raise ConfigError(
                f"{' and '.join(differing)} would make the runs take unequal numbers of optimiser steps;"
                " to train all for equally many, set trainer.max_steps=N trainer.max_epochs=-1"
            )


def refuse_no_end(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError for runs that would take no optimiser step or never end."""
    for trainer in (cfg["trainer"] for cfg in configs):
        for name in ("max_epochs", "max_steps", "limit_train_batches"):
            if trainer.get(name) == 0:
                raise ConfigError(f"trainer.{name}=0 would train nothing; a benchmark needs at least one step")
        if trainer["max_epochs"] == -1 and trainer["max_steps"] == -1:
            raise ConfigError("trainer.max_epochs=-1 would train without end; set trainer.max_steps=N with it")


def unequal_steps(steps: Mapping[str, int], configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A sentence if comparable runs took unequal numbers of steps, else None; ``steps`` and ``configs`` by run name."""
    for group in _groups(list(configs.values())):
        found = {name: steps[name] for name, cfg in configs.items() if name in steps and cfg in group}
        if len(set(found.values())) > 1:
            least, most = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
            return (
                f"the runs did not take equally many optimiser steps: {least} {found[least]:,}, {most} {found[most]:,};"
                " compare them with care"
            )
    return None


def _groups(configs: Sequence[Mapping[str, Any]]) -> Iterable[list[Mapping[str, Any]]]:
    """Configs grouped by data set and length of training."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for cfg in configs:
        data, trainer = cfg["data"], cfg["trainer"]
        kind = (data["source"], data["dataset"], data["root"], trainer["max_epochs"], trainer["max_steps"])
        groups.setdefault(tuple(map(str, kind)), []).append(cfg)
    return groups.values()


def _at(cfg: Mapping[str, Any], key: str) -> Any:
    group, _, name = key.partition(".")
    return cfg[group].get(name)
