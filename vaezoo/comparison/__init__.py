"""Comparison of runs: loading, grouping, statistics and fairness checks."""

from vaezoo.comparison.fairness import Finding, check, unranked
from vaezoo.comparison.groups import Group, SeedGroup, group, sweeps, weights
from vaezoo.comparison.records import Number, Refusal, RunRecord, gather
from vaezoo.comparison.statistics import Estimate, Verdict, estimate, verdict

__all__ = [
    "Estimate",
    "Finding",
    "Group",
    "Number",
    "Refusal",
    "RunRecord",
    "SeedGroup",
    "Verdict",
    "check",
    "estimate",
    "gather",
    "group",
    "sweeps",
    "unranked",
    "verdict",
    "weights",
]
