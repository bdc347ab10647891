"""Lightning's ``Trainer`` with vaezoo's settings for non-finite losses, and checks of its numeric settings."""

import re
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least

ON_NONFINITE = ("stop", "skip")

MINIMA = {
    **dict.fromkeys(("max_epochs", "max_steps", "accumulate_grad_batches", "check_val_every_n_epoch"), 1),
    **dict.fromkeys(("min_epochs", "min_steps", "num_sanity_val_steps", "log_every_n_steps", "max_skipped"), 0),
    **dict.fromkeys(("fast_dev_run", "gradient_clip_val", "reload_dataloaders_every_n_epochs"), 0),
    "num_nodes": 1,
}
"""Minimum of each setting, where it is a number."""
UNLIMITED = ("max_epochs", "max_steps", "num_sanity_val_steps")
"""Settings that may be -1 for "all" or "unlimited"."""
BATCH_LIMITS = {"limit_train_batches": 1, "val_check_interval": 1} | dict.fromkeys(
    ("limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches"), 0
)
"""Settings that are a number of batches, with its minimum, or a fraction of the batches."""


class Trainer(L.Trainer):
    """Lightning's ``Trainer`` with a setting for non-finite losses and gradients.

    Args:
        on_nonfinite: "stop" ends training; "skip" leaves weights and optimiser state unchanged, counts the step and
            continues. "skip" synchronises with the device at every step, "stop" does not.
        max_skipped: maximum number of skipped steps in the whole run; one more ends training, as do ten in a row.
        others: arguments of Lightning's ``Trainer``.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(self, *, on_nonfinite: str = "stop", max_skipped: int = 100, **others: Any) -> None:
        if on_nonfinite not in ON_NONFINITE:
            raise ConfigError(f"trainer.on_nonfinite must be {' or '.join(ON_NONFINITE)}, got {on_nonfinite!r}")
        check_numbers({"max_skipped": max_skipped, **others})
        self.on_nonfinite, self.max_skipped = on_nonfinite, max_skipped
        super().__init__(**others)


def check_numbers(settings: Mapping[str, Any]) -> None:
    """ConfigError for trainer settings that are out of range or contradict each other."""
    numbers = {name: value for name, value in settings.items() if isinstance(value, int | float)}
    for name, least in MINIMA.items():
        if name in numbers and not (numbers[name] == -1 and name in UNLIMITED):
            at_least(numbers[name], least, f"trainer.{name}")
    for name, least in BATCH_LIMITS.items():
        _check_batch_limit(f"trainer.{name}", numbers.get(name, 1), least)
    _check_time(settings.get("max_time"))
    for unit in ("epochs", "steps"):
        fewest, most = settings.get(f"min_{unit}") or 0, settings.get(f"max_{unit}") or -1
        if fewest > most != -1:
            raise ConfigError(f"trainer.min_{unit}={fewest} must be at most trainer.max_{unit}={most}")


def _check_time(max_time: Any) -> None:
    """ConfigError for a time limit of zero; Lightning itself reports malformed times."""
    if isinstance(max_time, str):
        nothing = not re.search(r"[1-9]", max_time)
    else:
        nothing = isinstance(max_time, Mapping) and not any(max_time.values())
    if nothing:
        raise ConfigError(f"trainer.max_time must be above 0, got {max_time!r}")


def _check_batch_limit(key: str, value: float, least: int) -> None:
    """ConfigError unless ``value`` is an integer of at least ``least`` or a float in (0, 1]; 0.0 if ``least`` is 0."""
    if isinstance(value, float):
        if not (0 < value <= 1 or value == least == 0):
            raise ConfigError(f"{key} must be a number of batches or a fraction above 0 and up to 1.0, got {value}")
    elif value < least:
        raise ConfigError(f"{key} must be at least {least}, got {value}")
