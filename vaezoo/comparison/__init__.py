"""Runs side by side as numbers: gathering, statistics, fairness. It knows no variant's class, and draws nothing."""

from vaezoo.comparison.fairness import Finding, check, spoiled
from vaezoo.comparison.groups import Group, Variant, group, sweeps, weights
from vaezoo.comparison.records import Entry, Number, Refusal, gather
from vaezoo.comparison.statistics import Estimate, Verdict, estimate, verdict

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
