"""Runs that differ in nothing but their seed as one variant, and variants on the same data as one group."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vaezoo.comparison.records import Entry, Refusal
from vaezoo.config.reading import flat, is_number

Settings = dict[str, Any]
SIZES = ("n", "k")
"""Sample sizes that are shown beside a number: images or draws, and draws of each."""

DATA = (
    *(
        "source",
        "dataset",
        "name",
        "image_size",
        "channels",
        "fit",
        "range",
        "binarize",
        "limit",
        "val_size",
        "test_size",
    ),
    *("split_seed", "batch_size", "drop_last"),
)
TRAINER = (
    *("max_epochs", "max_steps", "max_time", "precision", "gradient_clip_val", "gradient_clip_algorithm"),
    *("accumulate_grad_batches", "limit_train_batches", "overfit_batches"),
)
"""Settings that can change a result. Those of display, files, workers and devices are no part of a variant."""

FITTED = {"pad": ", padded", "stretch": ", stretched"}
"""How images were brought to their size, other than by a crop."""


@dataclass
class Variant:
    """Runs of one configuration, a seed each, in order of their seeds."""

    label: str
    settings: Settings
    entries: list[Entry]

    @property
    def first(self) -> Entry:
        """The run whose pictures stand for the variant: that of the lowest seed."""
        return self.entries[0]

    @property
    def seeds(self) -> list[int]:
        return [entry.seed for entry in self.entries]

    @property
    def likelihood(self) -> str:
        """Name and options: only numbers of the same one can be ranked."""
        options = self.first.config["model"].get("likelihood_options") or {}
        extra = ", ".join(f"{name} {value}" for name, value in sorted(options.items()))
        name = str(self.first.summary["likelihood"]).replace("_", " ")
        return f"{name} ({extra})" if extra else name

    @property
    def objective(self) -> str:
        return str(self.first.summary["objective"])

    def values(self, name: str) -> dict[int, float]:
        """A metric by seed, without the seeds that have none."""
        found = {entry.seed: entry.value(name) for entry in self.entries}
        return {seed: value for seed, value in found.items() if value is not None}

    def error(self, name: str) -> float | None:
        """Standard error of a metric over images or draws, averaged over seeds; None for what is counted."""
        found = [entry.numbers[name].error for entry in self.entries if name in entry.numbers]
        known = [error for error in found if error is not None]
        return sum(known) / len(known) if known else None

    def sizes(self, name: str) -> str:
        """Over how many images and draws a metric was estimated: ``n = 300, k = 50``, or nothing."""
        found = [dict(entry.numbers[name].sizes) for entry in self.entries if entry.value(name) is not None]
        texts = [", ".join(f"{key} = {sizes[key]:,}" for key in SIZES if is_number(sizes.get(key))) for sizes in found]
        return " | ".join(dict.fromkeys(texts))

    def reason(self, name: str) -> str:
        """Why a metric is missing, if a run says it."""
        said = (entry.numbers[name].reason for entry in self.entries if name in entry.numbers)
        return next((reason for reason in said if reason), "")


@dataclass
class Group:
    """Variants on the same data, which alone may be compared."""

    name: str
    variants: list[Variant]
    refused: list[Refusal] = field(default_factory=list)

    @property
    def likelihoods(self) -> dict[str, list[Variant]]:
        """Variants by likelihood."""
        found: dict[str, list[Variant]] = {}
        for variant in self.variants:
            found.setdefault(variant.likelihood, []).append(variant)
        return found


def group(entries: Sequence[Entry]) -> list[Group]:
    """Runs by data set, and within it by configuration; a second run of the same seed is refused, not counted."""
    by_data: dict[str, list[Entry]] = {}
    for entry in entries:
        by_data.setdefault(data_name(entry), []).append(entry)
    return [_group(name, found) for name, found in by_data.items()]


def data_name(entry: Entry) -> str:
    """What an entry's data are called, with all that makes them other data: size, fit, levels, binarisation."""
    data = entry.summary["data"]
    channels, height, width = data["image_shape"]
    binarized = "" if data["binarize"] == "none" else f", binarised ({data['binarize']})"
    fitted = FITTED.get(str(data.get("fit", "crop")), "")
    levels = data.get("range", "full")
    ranged = f", levels {' to '.join(map(str, levels))}" if isinstance(levels, list) else ""
    return f"{data['name']}, {channels}×{height}×{width}{fitted}{ranged}{binarized}"


def _group(name: str, entries: Iterable[Entry]) -> Group:
    found: dict[str, Variant] = {}
    refused = []
    for entry in entries:
        settings = what_matters(entry.config)
        variant = found.setdefault(repr(sorted(settings.items())), Variant("", settings, []))
        twin = next((other for other in variant.entries if other.seed == entry.seed), None)
        if twin:
            refused.append(
                Refusal(entry.path, f"it has the configuration and seed of {twin.path}, which is used instead")
            )
        else:
            variant.entries.append(entry)
    variants = list(found.values())
    for variant in variants:
        variant.entries.sort(key=lambda entry: entry.seed)
        variant.label = label(variant, variants)
    return Group(name, sorted(variants, key=lambda variant: _natural(variant.label)), refused)


def what_matters(config: dict[str, Any]) -> Settings:
    """The settings that make a variant, by dotted name, without those that are null."""
    kept: dict[str, Any] = {"model": config["model"]}
    kept["data"] = {name: config["data"].get(name) for name in DATA}
    kept["trainer"] = {name: config["trainer"].get(name) for name in TRAINER}
    kept["averages"] = averaging(config)
    values = flat(kept, whole=True)
    return {name: value for name, value in values if not name.endswith("_convert_") and value not in (None, {})}


def averaging(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of a callback that averages weights, if there is one."""
    nodes = (config.get("callbacks") or {}).values() if isinstance(config.get("callbacks"), dict) else ()
    return next(
        (node for node in nodes if isinstance(node, dict) and str(node.get("_target_")).endswith("WeightAveraging")), {}
    )


def label(variant: Variant, others: Sequence[Variant]) -> str:
    """The model's name, with its own weights and the settings by which it differs from others of that name."""
    name = class_name(variant)
    rivals = [other for other in others if class_name(other) == name]
    keys = sorted({key for other in rivals for key in other.settings})
    differing = [key for key in keys if len({repr(other.settings.get(key)) for other in rivals}) > 1]
    named = dict.fromkeys([*weights(variant, others), *differing])
    shown = [f"{short(key)}={_shown(variant.settings.get(key, 'none'))}" for key in named]
    return " ".join([name, *shown])


def weights(variant: Variant, others: Sequence[Variant]) -> list[str]:
    """Settings that other models lack and whose number is in the objective: the 4 of recon + 4 kl."""
    terms = variant.objective.split()
    own = [key for key in variant.settings if any(key not in other.settings for other in others)]
    numbers = [key for key in own if key.startswith("model.") and is_number(variant.settings[key])]
    return [key for key in numbers if f"{variant.settings[key]:g}" in terms]


def class_name(variant: Variant) -> str:
    return str(variant.settings["model._target_"]).rpartition(".")[2]


def short(key: str) -> str:
    """A setting without its group: ``optimizer.lr`` of ``model.optimizer.lr``."""
    return key.partition(".")[2]


def sweeps(variants: Sequence[Variant]) -> list[tuple[str, list[Variant]]]:
    """Variants that differ in one number alone, in its order, under that setting's short name."""
    found = []
    for key in sorted({key for variant in variants for key in variant.settings if key.startswith("model.")}):
        rows: dict[str, list[Variant]] = {}
        for variant in variants:
            if isinstance(variant.settings.get(key), int | float):
                rest = sorted((name, value) for name, value in variant.settings.items() if name != key)
                rows.setdefault(repr(rest), []).append(variant)
        for row in rows.values():
            if len(row) > 1:
                found.append((short(key), sorted(row, key=lambda variant: variant.settings[key])))
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _natural(text: str) -> list[tuple[int, float, str]]:
    """A key that puts 4 before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part.lower()) for index, part in enumerate(parts)]
