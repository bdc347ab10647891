"""Weights that change while a model trains, as pure functions of the optimiser step, so that they resume exactly."""

from vaezoo.config.choices import BETA_SCHEDULES
from vaezoo.config.errors import ConfigError

CYCLE_RAMP = 0.5
"""Share of a cycle in which beta rises; for the rest it stays at its full value (R in Fu et al., 2019)."""


def linear(step: int, steps: int) -> float:
    """0 at the first step, 1 from step ``steps`` on."""
    return min(1.0, step / steps)


def cyclic(step: int, steps: int) -> float:
    """Rises from 0 to 1 in the first half of every ``steps`` steps and stays there (Fu et al., 2019)."""
    return min(1.0, (step % steps) / (CYCLE_RAMP * steps))


def fraction(schedule: str, step: int, steps: int) -> float:
    """Share of the full weight that ``schedule`` gives at ``step``, between 0 and 1."""
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return linear(step, steps)
    if schedule == "cyclic":
        return cyclic(step, steps)
    raise ConfigError(f"model.beta_schedule must be one of {', '.join(BETA_SCHEDULES)}, got {schedule!r}")
