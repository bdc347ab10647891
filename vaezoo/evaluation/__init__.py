"""Numbers after training: a run's best weights on the test set, with what they are to be held against."""

from vaezoo.evaluation.evaluate import count_steps, evaluate_model, evaluate_run
from vaezoo.evaluation.settings import FULL, QUICK, Settings, with_changes

__all__ = ["FULL", "QUICK", "Settings", "count_steps", "evaluate_model", "evaluate_run", "with_changes"]
