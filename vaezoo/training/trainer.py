"""Lightning's ``Trainer`` with what vaezoo adds to its settings. It knows no models and no data."""

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
"""The least that these settings may be where they are numbers."""
UNLIMITED = ("max_epochs", "max_steps", "num_sanity_val_steps")
"""Settings of which -1 stands for all, or for no end."""
BATCH_LIMITS = {"limit_train_batches": 1, "val_check_interval": 1} | dict.fromkeys(
    ("limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches"), 0
)
"""Settings that are a number of batches, of which this is the least, or a fraction of them."""


class Trainer(L.Trainer):
    """Lightning's ``Trainer``, told what to do about a loss or gradient that is infinite or not a number.

    Args:
        on_nonfinite: "stop" ends the training; "skip" leaves the weights and the optimiser as they are, counts the
            step, and goes on. It waits for the device at every step, which "stop" does not.
        max_skipped: steps of the whole run that may be skipped; one more ends the training, as do many in a row.
        others: Lightning's own.
    """

    def __init__(self, *, on_nonfinite: str = "stop", max_skipped: int = 100, **others: Any) -> None:
        if on_nonfinite not in ON_NONFINITE:
            raise ConfigError(f"trainer.on_nonfinite must be {' or '.join(ON_NONFINITE)}, got {on_nonfinite!r}")
        check_numbers({"max_skipped": max_skipped, **others})
        self.on_nonfinite, self.max_skipped = on_nonfinite, max_skipped
        super().__init__(**others)


def check_numbers(settings: Mapping[str, Any]) -> None:
    """ConfigError for settings of a trainer with which it would train nothing, or which mean nothing."""
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
    """ConfigError for a time that is over before the first step; what is no time at all Lightning says itself."""
    if isinstance(max_time, str):
        nothing = not re.search(r"[1-9]", max_time)
    else:
        nothing = isinstance(max_time, Mapping) and not any(max_time.values())
    if nothing:
        raise ConfigError(f"trainer.max_time must be above 0, got {max_time!r}")


def _check_batch_limit(key: str, value: float, least: int) -> None:
    """ConfigError unless this is a number of batches from ``least`` up, or a float that is a fraction of them."""
    if isinstance(value, float):
        if not (0 < value <= 1 or value == least == 0):
            raise ConfigError(f"{key} must be a number of batches or a fraction above 0 and up to 1.0, got {value}")
    elif value < least:
        raise ConfigError(f"{key} must be at least {least}, got {value}")
