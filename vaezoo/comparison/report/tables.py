"""Tables of a comparison as rows of cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vaezoo.comparison import Estimate, Group, Variant, Verdict, estimate, verdict
from vaezoo.comparison.records import finite
from vaezoo.comparison.report.charts import readable
from vaezoo.comparison.statistics import figures
from vaezoo.metrics.catalogue import CATALOGUE, SOURCES, Metric

GLANCE = (
    *("elbo", "iw_bound", "psnr", "prior_fd_classifier", "mixture_fd_classifier"),
    *("interpolation_fd_linear", "probe_accuracy", "mig", "active_units", "seconds"),
)
"""What a reader wants first."""
OPEN = ("likelihood", "reconstruction", "generation")
"""Sections that are unfolded at first."""
LIKELIHOOD = "likelihood"
REFERENCES = {"pca": "PCA", "untrained": "untrained encoder", "factors": "the factors themselves"}
SCALES = {"flops_per_image": 1e6, "peak_memory_bytes": 2**20}
UNITS = {"flops_per_image": "MFLOP", "peak_memory_bytes": "MiB"}


@dataclass(frozen=True)
class Column:
    """A metric as a table's header shows it; ``sizes`` are those of all its numbers, if they are the same."""

    metric: Metric
    title: str
    unit: str
    scale: float
    sizes: str


@dataclass
class Cell:
    """A number, its interval and its seeds; ``mark`` is best, ahead, lead, level or nothing.

    ``sizes`` says over how many images it was estimated, where its column does not.
    """

    text: str
    half: str = ""
    value: float | None = None
    mark: str = ""
    tip: str = ""
    dots: list[tuple[float, str]] = field(default_factory=list)
    bar: tuple[float, float] | None = None
    sizes: str = ""

    @property
    def leads(self) -> bool:
        """Whether it is the best mean of its column."""
        return self.mark in ("best", "ahead", "lead")


@dataclass
class Row:
    """A variant, or a reference where ``index`` is None."""

    label: str
    note: str
    seeds: int
    index: int | None
    cells: list[Cell]


@dataclass
class Table:
    """One section's numbers; ``claims`` are metrics, and a sentence on what their numbers show."""

    title: str
    columns: list[Column]
    rows: list[Row]
    claims: list[tuple[str, str]]
    absent: dict[str, list[str]] = field(default_factory=dict)
    """By reason, the metrics that no run has."""
    unfolded: bool = True


def tables(group: Group, forbidden: dict[str, str]) -> list[Table]:
    """A short table first, then one for each section; numbers of different likelihoods in tables apart."""
    glance = [name for name in GLANCE if len(group.likelihoods) == 1 or CATALOGUE[name].section != LIKELIHOOD]
    glance = ["flops_per_image" if name == "seconds" and name in forbidden else name for name in glance]
    found = [_table("At a glance", glance, group.variants, group, forbidden)]
    for section, names in _sections().items():
        parts = group.likelihoods if section == LIKELIHOOD else {"": group.variants}
        for likelihood, variants in parts.items():
            title = section[0].upper() + section[1:] + (f": {likelihood}" if likelihood else "")
            found.append(_table(title, names, variants, group, forbidden, section=section))
    return [table for table in found if table.columns]


def _sections() -> dict[str, list[str]]:
    """Metrics by table: a section each, but generation by what is decoded, since it would be too wide."""
    found: dict[str, list[str]] = {}
    for name, metric in CATALOGUE.items():
        source = SOURCES.get(name.partition("_")[0], "") if metric.section == "generation" else ""
        if not name.startswith("floor_"):
            found.setdefault(metric.section + (f": {source}" if source else ""), []).append(name)
    return found


def _table(
    title: str, names: Iterable[str], variants: Sequence[Variant], group: Group, forbidden: dict[str, str],
    section: str = "",
) -> Table:  # fmt: skip
    names = list(names)
    present = [name for name in names if any(variant.values(name) for variant in variants)]
    columns = [_column(name, variants) for name in present]
    verdicts = {name: _judge(variants, name, forbidden) for name in present}
    cells = {name: _cells(variants, column, verdicts[name]) for name, column in zip(present, columns, strict=True)}
    rows = [
        Row(variant.label, variant.objective, len(variant.entries), group.variants.index(variant), row)
        for at, variant in enumerate(variants)
        for row in [[cells[name][at] for name in present]]
    ]
    absent: dict[str, list[str]] = {}
    for name in names:
        if name not in present and (reason := _why(variants, name)):
            absent.setdefault(reason, []).append(readable(name))
    references = _references(variants, columns) if section else []
    return Table(
        title,
        columns,
        rows + references,
        _claims(variants, verdicts),
        absent,
        not section or section.partition(":")[0] in OPEN,
    )


def _judge(variants: Sequence[Variant], name: str, forbidden: dict[str, str]) -> Verdict | None:
    found = verdict(variants, name, CATALOGUE[name].better)
    if found is None or name not in forbidden:
        return found
    return Verdict("none", "", (), f"not ranked, because {forbidden[name]} (see Fairness)")


def _claims(variants: Sequence[Variant], verdicts: dict[str, Verdict | None]) -> list[tuple[str, str]]:
    """What the numbers of each metric show; metrics of which the same can be said stand together."""
    found: dict[str, list[str]] = {}
    for name, judged in verdicts.items():
        if judged is not None:
            sentence = _one_seed(variants) if judged.status == "untested" else judged.sentence
            found.setdefault(sentence, []).append(readable(name))
    if len(found) == 1:
        return [("all metrics", sentence) for sentence in found]
    return [(", ".join(names), sentence) for sentence, names in found.items()]


def _one_seed(variants: Sequence[Variant]) -> str:
    single = [variant.label for variant in variants if len(variant.entries) == 1]
    who = "each model" if len(single) == len(variants) else " and ".join(single)
    return (
        f"with one seed for {who}, differences cannot be tested; the best value is in bold, but other seeds may differ"
    )


def _why(variants: Sequence[Variant], name: str) -> str:
    return next((reason for variant in variants if (reason := variant.reason(name))), "")


def _column(name: str, variants: Sequence[Variant]) -> Column:
    metric = CATALOGUE[name]
    sizes = {variant.sizes(name) for variant in variants if variant.values(name)}
    common = sizes.pop() if len(sizes) == 1 else ""
    return Column(metric, readable(name), UNITS.get(name, metric.unit), SCALES.get(name, 1.0), common)


def _cells(variants: Sequence[Variant], column: Column, judged: Verdict | None) -> list[Cell]:
    """A column's cells, with dots and bars on a scale that they share."""
    name = column.metric.name
    estimates = [estimate(variant.values(name)) for variant in variants]
    ends = [end for found in estimates if found is not None for end in _ends(found)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    error = max((variant.error(name) or 0.0 for variant in variants), default=0.0)
    return [
        Cell("n/a", tip=variant.reason(name) or "not available for this run")
        if found is None
        else _cell(variant, column, found, judged, low, high, error)
        for variant, found in zip(variants, estimates, strict=True)
    ]


def _ends(found: Estimate) -> list[float]:
    half = found.half or 0.0
    return [*found.values.values(), found.mean - half, found.mean + half]


def _cell(
    variant: Variant, column: Column, found: Estimate, judged: Verdict | None, low: float, high: float, error: float
) -> Cell:  # fmt: skip
    def place(value: float) -> float:
        return 50.0 if high == low else 4 + 92 * (value - low) / (high - low)

    known = _known_to(found, column, error)
    dots = [
        (place(value), f"seed {seed}: {figures(value / column.scale, known)}") for seed, value in found.values.items()
    ]
    return Cell(
        figures(found.mean / column.scale, known),
        _interval(found.half / column.scale, known) if found.half else "",
        found.mean,
        _mark(variant, judged),
        _tip(variant, column, found, judged),
        dots,
        (place(found.mean - found.half), place(found.mean + found.half)) if found.half else None,
        "" if column.sizes else variant.sizes(column.metric.name),
    )


def _known_to(found: Estimate, column: Column, error: float) -> float | None:
    """What bounds the digits of a mean: its interval over seeds, or ten of its column's errors if that is more.

    Of ten standard errors over images the first digit is that of the error itself: 108.2 with an error of 0.6.
    """
    return max(found.half or 0.0, 10 * error) / column.scale or None


def _interval(half: float, known: float | None) -> str:
    """Half the width of an interval to as many decimals as its mean has, but one digit at least."""
    text = figures(half, known)
    return text if text.strip("0.") else figures(half, 10 * half)


def _mark(variant: Variant, judged: Verdict | None) -> str:
    if judged is None or judged.status == "none":
        return ""
    if variant.label == judged.leader:
        return {"best": "best", "ahead": "ahead"}.get(judged.status, "lead")
    return "level" if variant.label in judged.level_with else ""


def _tip(variant: Variant, column: Column, found: Estimate, judged: Verdict | None) -> str:
    name = column.metric.name
    number = next(entry.numbers[name] for entry in variant.entries if entry.seed in found.values)
    sizes = ", ".join(f"{key} = {value}" for key, value in number.sizes)
    spread = "95% t-interval over seeds" if found.half is not None else "no interval from one seed"
    parts = [column.metric.text, f"{len(found.values)} of {len(variant.entries)} seeds, {spread}."]
    parts += [f"{sizes}."] if sizes else []
    parts += [f"{judged.sentence}."] if judged is not None and judged.leader == variant.label else []
    return " ".join(parts)


def _references(variants: Sequence[Variant], columns: Sequence[Column]) -> list[Row]:
    """Rows that no model gave: PCA, an untrained encoder, the factors, and the floor of distances."""
    rows: dict[str, Row] = {}
    for variant in variants:
        for name, said in variant.first.evaluation.get("references", {}).items():
            metrics = said.get("metrics", {})
            values = [finite(metrics.get(column.metric.name, {}).get("value")) for column in columns]
            label = REFERENCES.get(name, name)
            _add_reference(rows, f"{label}, as for {variant.label}", label, columns, values)
        floors = [variant.first.value(_floor(column.metric.name)) for column in columns]
        _add_reference(rows, f"training images, as for {variant.label}", "training images", columns, floors)
    return list(rows.values())


def _add_reference(
    rows: dict[str, Row], longer: str, label: str, columns: Sequence[Column], values: Sequence[float | None]
) -> None:
    if all(value is None for value in values):
        return
    cells = [_plain(column, value) for column, value in zip(columns, values, strict=True)]
    alike = label in rows and [cell.text for cell in rows[label].cells] == [cell.text for cell in cells]
    if not alike:
        free = longer if label in rows else label
        rows[free] = Row(free, "reference", 0, None, cells)


def _plain(column: Column, value: float | None) -> Cell:
    return Cell("", value=None) if value is None else Cell(figures(value / column.scale, None), value=value)


def _floor(name: str) -> str:
    """The floor that belongs to a distance: ``floor_fd_classifier`` of ``prior_fd_classifier``."""
    _, _, rest = name.partition("_")
    return f"floor_{rest}" if rest.startswith(("fd_", "kd_")) else ""
