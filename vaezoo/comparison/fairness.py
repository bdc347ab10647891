"""Fairness checks: unintended differences between runs, and the metrics that cannot be ranked because of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vaezoo.comparison.groups import Group, averaging
from vaezoo.comparison.records import Number, RunRecord, finite
from vaezoo.metrics.catalogue import CATALOGUE

TIMES = frozenset({"images_per_second", "seconds"})
MACHINE = TIMES | {"peak_memory_bytes"}
"""Metrics that depend on the machine as well as on the model."""
MOST_LAYERS = 40
"""Layers of a network that are listed."""
CLASSIFIED = frozenset(name for name in CATALOGUE if name.endswith("_classifier"))
"""Distances in features of a classifier of the labels."""
EVERYTHING = frozenset(CATALOGUE) - {"parameters", "flops_per_image", "code_bits"}


@dataclass(frozen=True)
class Finding:
    """Result of one check. ``severity`` is equal, note, warning or invalid; ``values`` are (label, value) pairs.

    ``unranked`` names the metrics that must not be ranked.
    """

    topic: str
    severity: str
    sentence: str
    values: tuple[tuple[str, str], ...] = ()
    unranked: frozenset[str] = field(default=frozenset())
    because: str = ""

    @property
    def reason(self) -> str:
        """Why the metrics in ``unranked`` are not ranked."""
        return self.because or f"the runs differ in {self.topic}"


MEASURED = ("live_dimensions",)
"""What stands beside a number and depends on the model: it is no sample size."""


@dataclass(frozen=True)
class Rule:
    """A property of runs that should be equal, and the finding if it is not."""

    topic: str
    of: Callable[[RunRecord], Any]
    severity: str
    sentence: str
    unranked: frozenset[str] = frozenset()
    of_training: bool = False
    """Whether models that were trained elsewhere do not have it."""


def _data(*names: str) -> Callable[[RunRecord], Any]:
    return lambda record: _named(record.summary["data"], names)


def _model(*names: str) -> Callable[[RunRecord], Any]:
    return lambda record: _named(record.config["model"], names)


def _trainer(*names: str) -> Callable[[RunRecord], Any]:
    return lambda record: _named(record.config["trainer"], names)


def _environment(*names: str) -> Callable[[RunRecord], Any]:
    return lambda record: _named(record.summary["environment"], names)


def _named(values: dict[str, Any], names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return str(values.get(names[0]))
    return ", ".join(f"{name.replace('_', ' ')} {values.get(name)}" for name in names)


def _dimensions(record: RunRecord) -> str:
    """Dimensions of a code, as positions times channels if it is spatial; runs of earlier versions have flat codes.

    Of a sphere they are those of its surface, one less than coordinates. The size of discrete codes is that of their
    indices in bits, as channels of a codebook cost nothing.
    """
    if record.value("perplexity") is not None and (bits := record.value("code_bits")) is not None:
        return f"{bits:,.0f} bits"
    shape = record.summary.get("code_shape") or [record.config["model"].get("latent_dim")]
    if len(shape) == 1:
        shape = [record.summary.get("manifold_dim") or shape[0]]
    return " × ".join(map(str, shape))


def _weights(record: RunRecord) -> str:
    averages = averaging(record.config)
    return f"averaged, decay {averages.get('decay')}" if averages else "not averaged"


def _changes(changed: list[dict[str, Any]]) -> str:
    """Settings changed with resume.force=true, with the step of each change."""
    changes = [f"{each['key']} {each.get('was')} -> {each.get('now')} at step {each['step']:,}" for each in changed]
    return ", ".join(changes) or "none"


RULES = (
    Rule(
        "training",
        lambda record: (
            "elsewhere, on other images" if record.is_adopted else "here, on the training images of the data"
        ),
        "invalid",
        "Some models were trained elsewhere, on other images, often larger ones, and with another budget: their numbers"
        " tell what such a model is worth on these images as it is, and not what its objective or its network is worth."
        " Their likelihood was fitted afterwards.",
        EVERYTHING,
    ),
    Rule(
        "test images",
        _data("test", "split_seed"),
        "invalid",
        "The runs were tested on different images, so none of their numbers is ranked.",
        EVERYTHING,
    ),
    Rule(
        "training images",
        _data("train", "val"),
        "invalid",
        "The runs were trained on different numbers of images: a better number may only mean more data.",
        EVERYTHING - MACHINE,
        of_training=True,
    ),
    Rule(
        "classes left out",
        _data("leave_out"),
        "invalid",
        "Some runs were trained without some of the classes, and the test images are of all.",
        EVERYTHING - MACHINE,
        of_training=True,
    ),
    Rule(
        "skipped images",
        _data("skipped"),
        "warning",
        "Some runs could not read all images, so the sets differ slightly.",
    ),
    Rule(
        "optimiser steps",
        lambda record: f"{record.summary['steps']:,}",
        "invalid",
        "The runs were trained for different numbers of steps, which favours those with more steps.",
        EVERYTHING - MACHINE,
        of_training=True,
    ),
    Rule(
        "settings changed while training",
        lambda record: _changes(record.summary.get("changed", [])),
        "warning",
        "Some runs were resumed with changed settings, so their config does not describe the whole training.",
        of_training=True,
    ),
    Rule(
        "skipped steps",
        lambda record: record.summary.get("skipped_steps", 0),
        "warning",
        "Steps with a loss or gradient that was not finite were skipped, in some runs more than in others.",
        of_training=True,
    ),
    Rule(
        "latent dimensions",
        _dimensions,
        "warning",
        "Codes differ in size; larger codes reconstruct better with any model.",
    ),
    Rule(
        "optimiser",
        _model("optimizer", "scheduler"),
        "warning",
        "The runs were optimised in different ways.",
        of_training=True,
    ),
    Rule(
        "batch size",
        lambda record: record.config["data"].get("batch_size"),
        "warning",
        "Batches differ in size: with equal steps, the runs saw different numbers of images.",
        of_training=True,
    ),
    Rule("precision", _trainer("precision"), "warning", "The runs computed in different precisions.", of_training=True),
    Rule(
        "weights",
        _weights,
        "warning",
        "Some runs have averaged weights and some do not; averaging alone may explain a difference.",
        of_training=True,
    ),
    Rule(
        "gradient clipping",
        _trainer("gradient_clip_val"),
        "warning",
        "Gradients were clipped in different ways.",
        of_training=True,
    ),
    Rule(
        "device",
        _environment("device_name", "device"),
        "invalid",
        "The runs were trained on different machines, so their times and memory are not ranked.",
        MACHINE,
        of_training=True,
    ),
    Rule(
        "threads",
        _environment("threads"),
        "invalid",
        "The runs computed with different numbers of threads, so their times are not ranked; threads=1 for all would"
        " make them comparable.",
        TIMES,
        of_training=True,
    ),
    Rule(
        "labels",
        lambda record: "given" if record.summary.get("given_label") else "not given",
        "warning",
        "Some models are given the label of each image and others are not: labels make images easier to reconstruct and"
        " to generate, and codes need not tell them, which probes measure.",
    ),
    Rule(
        "perceptual distance",
        lambda record: record.summary.get("perceptual") or "none",
        "warning",
        "Objectives differ in their perceptual distance: a metric in the same features favours models that were trained"
        " on it.",
        of_training=True,
    ),
    Rule(
        "features that were trained on",
        lambda record: "classifier" if record.config["model"].get("perceptual") == "classifier" else "none",
        "invalid",
        "Some models were trained on features of a classifier of labels, which favours them in distances in features"
        " of the classifier that measures.",
        CLASSIFIED,
        of_training=True,
    ),
    Rule("versions", _environment("vaezoo", "torch", "lightning", "numpy"), "note", "Library versions differ."),
    Rule("code", _environment("commit"), "note", "The runs were made with different commits of the code."),
    Rule(
        "checkpoint",
        lambda record: record.evaluation.get("checkpoint", "best"),
        "warning",
        "Some runs were evaluated on their best weights and some on their last.",
    ),
)


def check(group: Group) -> list[Finding]:
    """Run all checks on a group; findings are sorted by severity, worst first."""
    findings = [
        _network(group),
        _likelihood(group),
        _parameters(group),
        _seeds(group),
        _sources(group),
        _sharing(group),
        *(_apply(rule, group) for rule in RULES),
        *_sizes(group),
    ]
    order = {"invalid": 0, "warning": 1, "note": 2, "equal": 3}
    return sorted(findings, key=lambda finding: order[finding.severity])


def unranked(findings: list[Finding]) -> dict[str, str]:
    """Metrics that must not be ranked, with the reason."""
    return {name: finding.reason for finding in reversed(findings) for name in finding.unranked}


def _by_seed_group(
    group: Group, of: Callable[[RunRecord], Any], *, trained_here: bool = False
) -> tuple[tuple[str, str], ...]:
    """The label and value of each seed group; values that differ between seeds are joined by |.

    With ``trained_here``, models that were trained elsewhere are left out.
    """
    return tuple(
        (seed_group.label, " | ".join(dict.fromkeys(str(of(record)) for record in seed_group.records)))
        for seed_group in group.seed_groups
        if not (trained_here and seed_group.first.is_adopted)
    )


def _apply(rule: Rule, group: Group) -> Finding:
    values = _by_seed_group(group, rule.of, trained_here=rule.of_training)
    if not values or _alike(values):
        return Finding(rule.topic, "equal", values[0][1] if values else "no model was trained here")
    return Finding(rule.topic, rule.severity, rule.sentence, values, rule.unranked)


def _alike(values: tuple[tuple[str, str], ...]) -> bool:
    return len({value for _, value in values}) == 1 and " | " not in values[0][1]


def _network(group: Group) -> Finding:
    """Invalid if network and objective differ together, because either may explain a difference in metrics."""
    names = _by_seed_group(group, _model("network", "widths"))
    known = all(record.layers for seed_group in group.seed_groups for record in seed_group.records)
    networks = _by_seed_group(group, lambda record: " → ".join(record.layers)) if known else names
    shown = _by_seed_group(group, lambda record: " → ".join(_shortened(record.layers)))
    if _alike(networks):
        return Finding("network", "equal", f"{names[0][1]}; {shown[0][1]}" if known else names[0][1])
    pairs = [(seed_group.objective, value) for seed_group, (_, value) in zip(group.seed_groups, networks, strict=True)]
    both = any(one[0] != other[0] and one[1] != other[1] for one in pairs for other in pairs)
    pairs_of_texts = zip(names, shown, strict=True)
    values = tuple((label, f"{name}: {found}" if known else name) for (label, name), (_, found) in pairs_of_texts)
    if not both:
        return Finding(
            "network", "note", "Networks differ and objectives do not: the comparison is of networks.", values
        )
    sentence = "Some models differ in both network and objective: either may be the cause of a difference in numbers."
    return Finding("network", "invalid", sentence, values)


def _shortened(layers: tuple[str, ...]) -> tuple[str, ...]:
    """The layers, or the first and last ones of many."""
    if len(layers) <= MOST_LAYERS:
        return layers
    half = MOST_LAYERS // 2
    return (*layers[:half], f"... {len(layers) - 2 * half} more ...", *layers[-half:])


def _likelihood(group: Group) -> Finding:
    values = tuple((seed_group.label, seed_group.likelihood) for seed_group in group.seed_groups)
    if _alike(values):
        return Finding("likelihood", "equal", values[0][1])
    sentence = (
        "Likelihoods differ: their ELBOs, distortions and bounds are different quantities and are in separate tables."
    )
    return Finding("likelihood", "invalid", sentence, values)


def _parameters(group: Group) -> Finding:
    counts = [int(seed_group.first.summary["parameters"]) for seed_group in group.seed_groups]
    values = _by_seed_group(group, lambda record: f"{record.summary['parameters']:,}")
    if min(counts) == max(counts):
        return Finding("parameters", "equal", values[0][1])
    share = max(counts) / max(1, min(counts)) - 1
    severity = "note" if share <= 0.1 else "warning"
    return Finding(
        "parameters", severity, f"The largest model has {share:.1%} more parameters than the smallest.", values
    )


def _seeds(group: Group) -> Finding:
    values = tuple((seed_group.label, ", ".join(map(str, seed_group.seeds))) for seed_group in group.seed_groups)
    single = [seed_group.label for seed_group in group.seed_groups if len(seed_group.seeds) == 1]
    if single:
        sentence = f"One seed only for {', '.join(single)}: no intervals, and no tests of differences from them."
        return Finding("seeds", "warning", sentence, values)
    if not _alike(values):
        return Finding("seeds", "note", "Seeds differ, so differences are tested unpaired (Welch).", values)
    return Finding("seeds", "equal", values[0][1])


def _sources(group: Group) -> Finding:
    lacking = [
        (str(record.path), record.note)
        for seed_group in group.seed_groups
        for record in seed_group.records
        if record.note
    ]
    if not lacking:
        return Finding("evaluation", "equal", "every run has an evaluation.json")
    sentence = (
        "Some runs lack a usable evaluation.json: only their test results from the end of training are available."
    )
    return Finding("evaluation", "warning", sentence, tuple(lacking))


def _sharing(group: Group) -> Finding:
    """Runs that shared a machine slow each other down by an unknown amount, so their times are not ranked."""
    records = [record for seed_group in group.seed_groups for record in seed_group.records]
    shared = [
        record
        for record in records
        if (finite(record.summary["cost"].get("runs_at_once")) or 1) > 1
        or any(record.shared_with(other) for other in records if other is not record)
    ]
    if not shared:
        return Finding("shared machine", "equal", "no run is known to have trained while another used its machine")
    sentence = (
        f"{len(shared)} of {len(records)} runs trained while others used the same machine, so training times and"
        " images per second are not ranked, and charts of cost use FLOPs."
    )
    values = _by_seed_group(group, lambda record: "shared" if record in shared else "not shared")
    return Finding("shared machine", "warning", sentence, values, TIMES, "runs shared the machine")


def _sizes(group: Group) -> list[Finding]:
    """Metrics whose sample sizes differ between runs."""
    records = [record for seed_group in group.seed_groups for record in seed_group.records]
    numbers = [record.numbers for record in records]
    differing = [
        name
        for name in CATALOGUE
        if len({_given(found[name]) for found in numbers if name in found and found[name].value is not None}) > 1
    ]
    if not differing:
        return [Finding("sample sizes", "equal", "each number was estimated over equally many images and draws")]
    sentence = f"Estimated over different numbers of images or draws, so not ranked: {', '.join(differing)}."
    settings = _by_seed_group(group, lambda record: _settings_text(record.evaluation.get("settings", {})))
    return [Finding("sample sizes", "invalid", sentence, settings, frozenset(differing))]


def _given(number: Number) -> tuple[tuple[str, Any], ...]:
    """Sample sizes of a number, without what its model decides."""
    return tuple((key, value) for key, value in number.sizes if key not in MEASURED)


def _settings_text(settings: dict[str, Any]) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in settings.items() if name != "seed")
        or "the test at the end of training"
    )
