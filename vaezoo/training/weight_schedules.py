"""Schedules of loss weights as pure functions of the optimiser step, so that they resume exactly."""

from vaezoo.config.choices import BETA_SCHEDULES
from vaezoo.config.validation import one_of

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
    one_of(schedule, BETA_SCHEDULES, "model.beta_schedule")
    if schedule == "constant":
        return 1.0
    return linear(step, steps) if schedule == "linear" else cyclic(step, steps)


def describe(schedule: str, steps: int) -> str:
    """How beta moves to its final value, as a clause of a formula; empty if it is constant."""
    if schedule == "constant":
        return ""
    return f" (beta {'warms up over' if schedule == 'linear' else 'rises anew every'} {steps:,} steps)"
