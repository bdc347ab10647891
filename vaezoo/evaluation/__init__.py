"""Evaluation of a trained model: all metrics on a test set, and reference values to compare them with."""

from vaezoo.evaluation.model import count_steps, evaluate, evaluate_model
from vaezoo.evaluation.settings import FULL, QUICK, Settings, with_changes

__all__ = ["FULL", "QUICK", "Settings", "count_steps", "evaluate", "evaluate_model", "with_changes"]
