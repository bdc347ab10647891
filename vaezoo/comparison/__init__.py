"""Runs side by side as numbers: gathering, statistics, fairness. It knows no variant's class, and draws nothing."""

from vaezoo.comparison.entries import Entry, Number, Refusal, gather
from vaezoo.comparison.fairness import Finding, check, spoiled
from vaezoo.comparison.statistics import Estimate, Verdict, estimate, verdict
from vaezoo.comparison.variants import Group, Variant, group, sweeps, weights

__all__ = [
    "Entry",
    "Estimate",
    "Finding",
    "Group",
    "Number",
    "Refusal",
    "Variant",
    "Verdict",
    "check",
    "estimate",
    "gather",
    "group",
    "spoiled",
    "sweeps",
    "verdict",
    "weights",
]
