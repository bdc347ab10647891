"""The first screen of a report: three sentences on what was compared, what came out and what one can conclude."""

from collections.abc import Sequence

from vaezoo.comparison import Finding, Group, SeedGroup, Verdict, unranked, verdict
from vaezoo.comparison.report.charts import metric_label
from vaezoo.comparison.report.drawing import Panel
from vaezoo.metrics.catalogue import CATALOGUE

QUALITIES = {
    "iw_bound": "bound on the likelihood",
    "psnr": "reconstructions (PSNR)",
    "prior_fd_classifier": "samples (FD)",
    "mixture_fd_classifier": "samples of a fitted mixture (FD)",
    "probe_accuracy": "labels read from codes (linear probe)",
}
"""Metrics whose leaders are named, and what they are of."""
INSTEAD = {"iw_bound": "elbo", "psnr": "mse"}
"""Metrics that are taken where there are no others."""
FAMILIES = {"discrete codes": "perplexity", "distributions": "kl"}
"""Families of models by a metric that only they have; the others map an image to a point."""
POINTS = "points"


def family(seed_group: SeedGroup) -> str:
    """What a model maps an image to: discrete codes, a distribution, or a point."""
    return next((name for name, metric in FAMILIES.items() if seed_group.values(metric)), POINTS)


def families(group: Group) -> dict[str, list[int]]:
    """Indices of the models of each family, without those that there are none of."""
    found: dict[str, list[int]] = {name: [] for name in (POINTS, "distributions", "discrete codes")}
    for index, seed_group in enumerate(group.seed_groups):
        found[family(seed_group)].append(index)
    return {name: indices for name, indices in found.items() if indices}


def sentences(group: Group, findings: list[Finding]) -> list[str]:
    """What was compared, which models lead by the main metrics, and how far that can be trusted."""
    return [_compared(group), *_leaders(group, findings), _trust(group, findings)]


def overview(panels: Sequence[Panel]) -> Panel | None:
    """The chart of the first screen: the first of the rate-distortion planes, or else of quality and cost."""
    return next((panel for panel in panels if panel.name.rpartition("-")[0].endswith("rate-distortion")), None) or next(
        (panel for panel in panels if "cost-" in panel.name), None
    )


def _compared(group: Group) -> str:
    rows = group.seed_groups
    runs = sum(len(row.records) for row in rows)
    steps = sorted({int(record.summary["steps"]) for row in rows for record in row.records})
    seeds = sorted({len(row.records) for row in rows})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    length = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    models = f"{len(rows)} model" + ("s" if len(rows) != 1 else "")
    return (
        f"{models} on {group.name}: {runs} run{'s' if runs != 1 else ''}, {many} seed{'s' if many != '1' else ''} of"
        f" each, after {length} optimiser steps."
    )


def _leaders(group: Group, findings: list[Finding]) -> list[str]:
    """One sentence with the leader of each main metric; nothing if none can be ranked."""
    refused, found = unranked(findings), list[str]()
    for wanted, said in QUALITIES.items():
        known = any(seed_group.values(wanted) for seed_group in group.seed_groups)
        name = wanted if known else INSTEAD.get(wanted, wanted)
        if name in refused:
            continue
        of_likelihood = CATALOGUE[name].section == "likelihood" and len(group.likelihoods) > 1
        judged = None if of_likelihood else verdict(group.seed_groups, name, CATALOGUE[name].better)
        if judged is not None:
            said = said.replace(metric_label(wanted), metric_label(name))
            found.append(f"{said}: {judged.leader}{_rivals(judged)}")
    return [f"Best means: {'; '.join(found)}."] if found else []


def _rivals(judged: Verdict) -> str:
    """How a leader compares with the others, in brackets; empty for single seeds."""
    if judged.status in ("best", "ahead"):
        return f" ({'better than' if judged.status == 'best' else 'ahead of'} all others)"
    if judged.status == "level":
        count = len(judged.level_with)
        return f" (not distinguishable from {judged.level_with[0] if count == 1 else f'{count} others'})"
    return ""


def _trust(group: Group, findings: Sequence[Finding]) -> str:
    """What stands against conclusions, or what the verdicts mean."""
    wrong = [finding.topic for finding in findings if finding.severity == "invalid" and not _of_few(finding)]
    single = any(len(row.records) == 1 for row in group.seed_groups)
    if wrong:
        untested = ", and models with one seed cannot be tested" if single else ""
        return (
            f"The runs differ in {', '.join(wrong)}, so these numbers do not compare the models alone (see"
            f" Fairness){untested}."
        )
    if single:
        return "Models with one seed cannot be tested: another seed may change the order, so conclude nothing from it."
    careful = [finding.topic for finding in findings if finding.severity == "warning" or _of_few(finding)]
    note = f" Mind {', '.join(careful)}, see Fairness." if careful else ""
    return (
        "What is better than all others is so in tests over seeds, corrected for all pairs; other differences may be"
        f" chance.{note}"
    )


def _of_few(finding: Finding) -> bool:
    """Whether a finding only says of some metrics that they are not ranked, while leaders by others can be named."""
    return bool(finding.unranked) and not finding.unranked >= QUALITIES.keys()
