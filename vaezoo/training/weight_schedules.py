"""Schedules of loss weights as pure functions of the optimiser step, so that they resume exactly."""

from vaezoo.config.choices import BETA_SCHEDULES
from vaezoo.config.errors import ConfigError

CYCLE_RAMP = 0.5
"""Fraction of a cycle in which beta rises; it is constant for the rest (R in Fu et al., 2019)."""


def linear(step: int, steps: int) -> float:
    """Rises linearly from 0 at step 0 to 1 at step ``steps``, then stays at 1."""
    return min(1.0, step / steps)


def cyclic(step: int, steps: int) -> float:
    """Rises from 0 to 1 in the first half of every ``steps`` steps and stays there (Fu et al., 2019)."""
    return min(1.0, (step % steps) / (CYCLE_RAMP * steps))


def fraction(schedule: str, step: int, steps: int) -> float:
    """Fraction of the full weight at ``step``, in [0, 1]; ConfigError for an unknown schedule."""
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return linear(step, steps)
    if schedule == "cyclic":
        return cyclic(step, steps)
    raise ConfigError(f"model.beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {schedule!r}")
