"""Lightning's ``Trainer`` with what vaezoo adds to its settings. It knows no models and no data."""

from typing import Any

import lightning.pytorch as L

from vaezoo.errors import ConfigError

ON_NONFINITE = ("stop", "skip")


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
        if max_skipped < 0:
            raise ConfigError(f"trainer.max_skipped must be at least 0, got {max_skipped}")
        self.on_nonfinite, self.max_skipped = on_nonfinite, max_skipped
        super().__init__(**others)
