"""Groups of runs: a ``SeedGroup`` has one configuration and several seeds; a ``Group`` has one data set."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vaezoo.comparison.records import Refusal, RunRecord
from vaezoo.config.reading import flat, is_number
from vaezoo.config.shapes import is_table

Settings = dict[str, Any]
SIZES = ("n", "k")
"""Sample sizes shown with a metric: n images or draws, k draws per image."""

DATA = (
    *(
        "source",
        "dataset",
        "name",
        "dataset_options",
        "key",
        "label_key",
        "columns",
        "leave_out",
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
"""Settings that can change a result. Display, files, workers and devices do not distinguish seed groups."""

FITTED = {"pad": ", padded", "stretch": ", stretched"}
"""Suffixes of data names for values of ``data.fit`` other than crop."""


@dataclass
class SeedGroup:
    """Runs that are equal but for their seed, sorted by seed."""

    label: str
    settings: Settings
    records: list[RunRecord]

    @property
    def first(self) -> RunRecord:
        """The run with the lowest seed; its images represent the group."""
        return self.records[0]

    @property
    def seeds(self) -> list[int]:
        """The runs' seeds, ascending."""
        return [record.seed for record in self.records]

    @property
    def likelihood(self) -> str:
        """Name and options. Metrics that depend on the likelihood are ranked only within the same one.

        That of images given their label is another one.
        """
        options = self.first.config["model"].get("likelihood_options") or {}
        extra = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(options.items()))
        name = str(self.first.summary["likelihood"]).replace("_", " ")
        name += " given the label" if self.given_label else ""
        return f"{name} ({extra})" if extra else name

    @property
    def given_label(self) -> bool:
        """Whether the model is one of images given their label, whose bounds are other quantities."""
        return bool(self.first.summary.get("given_label"))

    @property
    def objective(self) -> str:
        """Formula of the objective, such as recon + 4 kl."""
        return str(self.first.summary["objective"])

    def values(self, name: str) -> dict[int, float]:
        """A metric by seed; seeds without a value are omitted."""
        found = {record.seed: record.value(name) for record in self.records}
        return {seed: value for seed, value in found.items() if value is not None}

    def error(self, name: str) -> float | None:
        """Standard error of a metric over images or draws, averaged over seeds; None if no run has one."""
        found = [record.numbers[name].error for record in self.records if name in record.numbers]
        known = [error for error in found if error is not None]
        return sum(known) / len(known) if known else None

    def sizes(self, name: str) -> str:
        """Sample sizes of a metric, such as ``n = 300, k = 50``; empty if unknown."""
        found = [dict(record.numbers[name].sizes) for record in self.records if record.value(name) is not None]
        texts = [", ".join(f"{key} = {sizes[key]:,}" for key in SIZES if is_number(sizes.get(key))) for sizes in found]
        return " | ".join(dict.fromkeys(texts))

    def reason(self, name: str) -> str:
        """Why a metric is missing, or an empty string."""
        reasons = (record.numbers[name].reason for record in self.records if name in record.numbers)
        return next((reason for reason in reasons if reason), "")


@dataclass
class Group:
    """Seed groups on the same data. Runs are compared only within a group."""

    name: str
    seed_groups: list[SeedGroup]
    refused: list[Refusal] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return int(self.seed_groups[0].first.summary["data"]["image_shape"][0])

    @property
    def likelihoods(self) -> dict[str, list[SeedGroup]]:
        """Seed groups by likelihood."""
        found: dict[str, list[SeedGroup]] = {}
        for seed_group in self.seed_groups:
            found.setdefault(seed_group.likelihood, []).append(seed_group)
        return found


def group(records: Sequence[RunRecord]) -> list[Group]:
    """Group runs by data set and configuration; a second run with the same configuration and seed is refused."""
    by_data: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        by_data.setdefault((data_name(record), _scaling(record)), []).append(record)
    names = [name for name, _ in by_data]
    return [
        _group(name if names.count(name) == 1 else f"{name}, standardised as {scaling}", found)
        for (name, scaling), found in by_data.items()
    ]


def _scaling(record: RunRecord) -> str:
    """A name for how the columns of a table were standardised: runs on other training rows measure in other units."""
    data = record.summary["data"]
    scale = repr([data.get(name) for name in ("columns", "mean", "std")])
    return hashlib.sha256(scale.encode()).hexdigest()[:6] if is_table(data["image_shape"]) else ""


def data_name(record: RunRecord) -> str:
    """Name of a run's data, including what makes data differ: image shape, fit, levels and binarisation."""
    data = record.summary["data"]
    channels, height, width = data["image_shape"]
    if is_table((channels, height, width)):
        return f"{data['name']}, {width} columns"
    binarized = "" if data["binarize"] == "none" else f", binarised ({data['binarize']})"
    fitted = FITTED.get(str(data.get("fit", "crop")), "")
    levels = data.get("range", "full")
    ranged = f", levels {' to '.join(map(str, levels))}" if isinstance(levels, list) else ""
    return f"{data['name']}, {channels}×{height}×{width}{fitted}{ranged}{binarized}"


def _group(name: str, records: Iterable[RunRecord]) -> Group:
    found: dict[str, SeedGroup] = {}
    refused = []
    for record in records:
        settings = identifying_settings(record.config)
        seed_group = found.setdefault(repr(sorted(settings.items())), SeedGroup("", settings, []))
        twin = next((other for other in seed_group.records if other.seed == record.seed), None)
        if twin:
            refused.append(
                Refusal(record.path, f"it has the configuration and seed of {twin.path}, which is used instead")
            )
        else:
            seed_group.records.append(record)
    seed_groups = list(found.values())
    for seed_group in seed_groups:
        seed_group.records.sort(key=lambda record: record.seed)
        seed_group.label = label(seed_group, seed_groups)
    return Group(name, sorted(seed_groups, key=lambda seed_group: _natural(seed_group.label)), refused)


def identifying_settings(config: dict[str, Any]) -> Settings:
    """The settings that distinguish seed groups, by dotted name; null values are omitted."""
    kept: dict[str, Any] = {"model": config["model"]}
    kept["data"] = {name: config["data"].get(name) for name in DATA}
    kept["trainer"] = {name: config["trainer"].get(name) for name in TRAINER}
    kept["averages"] = averaging(config)
    values = flat(kept, whole=True)
    return {name: value for name, value in values if not name.endswith("_convert_") and value not in (None, {})}


AVERAGING = ("WeightAveraging", "AveragedWeights")
"""Ends of the names of callbacks that average weights, Lightning's and ours."""


def averaging(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the weight-averaging callback, or an empty dict."""
    nodes = (config.get("callbacks") or {}).values() if isinstance(config.get("callbacks"), dict) else ()
    return next(
        (node for node in nodes if isinstance(node, dict) and str(node.get("_target_")).endswith(AVERAGING)), {}
    )


def label(seed_group: SeedGroup, others: Sequence[SeedGroup]) -> str:
    """The model's name, with its objective's weights and the settings that differ between groups of that name.

    Options that only others have, such as those of another quantiser, are left out.
    """
    name = class_name(seed_group)
    rivals = [other for other in others if class_name(other) == name]
    keys = sorted({key for other in rivals for key in other.settings})
    differing = [key for key in keys if len({repr(other.settings.get(key)) for other in rivals}) > 1]
    own = [key for key in differing if key in seed_group.settings or "_options." not in key]
    named = dict.fromkeys([*weights(seed_group, others), *sorted(own, key=lambda key: "_options." in key)])
    shown = [f"{short(key)}={_shown(seed_group.settings.get(key, 'none'))}" for key in named]
    return " ".join([name, *shown])


def weights(seed_group: SeedGroup, others: Sequence[SeedGroup]) -> list[str]:
    """Settings that other models lack and whose value appears in the objective, such as the 4 in recon + 4 kl."""
    terms = seed_group.objective.split()
    own = [key for key in seed_group.settings if any(key not in other.settings for other in others)]
    numbers = [key for key in own if key.startswith("model.") and is_number(seed_group.settings[key])]
    return [key for key in numbers if f"{seed_group.settings[key]:g}" in terms]


def class_name(seed_group: SeedGroup) -> str:
    """Name of the model's class, without its module, and the name of a model that was trained elsewhere."""
    cls = str(seed_group.settings["model._target_"]).rpartition(".")[2]
    return f"{cls} {seed_group.settings.get('model.name', '')}" if seed_group.first.is_adopted else cls


def short(key: str) -> str:
    """A setting without its config group and options: ``optimizer.lr`` for ``model.optimizer.lr``, ``weight`` for
    ``model.penalty_options.weight``."""
    return re.sub(r"^\w+_options\.", "", key.partition(".")[2])


def sweeps(seed_groups: Sequence[SeedGroup]) -> list[tuple[str, list[SeedGroup]]]:
    """Seed groups that differ only in one number, sorted by it, with the short name of that setting."""
    found = []
    for key in sorted({key for seed_group in seed_groups for key in seed_group.settings if key.startswith("model.")}):
        rows: dict[str, list[SeedGroup]] = {}
        for seed_group in seed_groups:
            if isinstance(seed_group.settings.get(key), int | float):
                rest = sorted((name, value) for name, value in seed_group.settings.items() if name != key)
                rows.setdefault(repr(rest), []).append(seed_group)
        for row in rows.values():
            if len(row) > 1:
                found.append((short(key), sorted(row, key=lambda seed_group: seed_group.settings[key])))
    return found


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key for natural order: 4 before 16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part.lower()) for index, part in enumerate(parts)]
