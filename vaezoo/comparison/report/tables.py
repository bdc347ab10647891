"""Tables of a comparison: metrics by model, with intervals, verdicts and reference rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vaezoo.comparison import Estimate, Group, SeedGroup, Verdict, estimate, verdict
from vaezoo.comparison.records import finite
from vaezoo.comparison.report.charts import metric_label
from vaezoo.comparison.statistics import figures
from vaezoo.metrics.catalogue import CATALOGUE, RFID, SOURCES, Metric

GLANCE = (
    *(
        "elbo",
        "elbo_prior",
        "iw_bound",
        "elbo_given_label",
        "iw_bound_given_label",
        "psnr",
        "prior_fd_classifier",
        "mixture_fd_classifier",
    ),
    *("interpolation_fd_linear", "probe_accuracy", "mig", "active_units", "seconds"),
)
"""Metrics of the table At a glance."""
OPEN = ("likelihood", "reconstruction", "generation")
"""Sections that are initially unfolded."""
LIKELIHOOD = "likelihood"
REFERENCES = {"pca": "PCA", "untrained": "untrained encoder", "factors": "the factors themselves"}
SCALES = {"flops_per_image": 1e6, "peak_memory_bytes": 2**20}
UNITS = {"flops_per_image": "MFLOP", "peak_memory_bytes": "MiB"}


@dataclass(frozen=True)
class Column:
    """A metric as a table column; ``sizes`` are its sample sizes, if the same for all rows."""

    metric: Metric
    title: str
    unit: str
    scale: float
    sizes: str


@dataclass
class Cell:
    """A mean with its interval and values by seed; ``mark`` is best, ahead, lead, level or empty.

    ``dots`` and ``bar`` are positions in percent of the column's scale. ``sizes`` are the sample sizes, if they differ
    within the column.
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
        """Whether this is the best mean of its column."""
        return self.mark in ("best", "ahead", "lead")


@dataclass
class Row:
    """The metrics of a seed group, or of a reference if ``index`` is None."""

    label: str
    note: str
    seeds: int
    index: int | None
    cells: list[Cell]


@dataclass
class Table:
    """The metrics of one section; ``claims`` are (metrics, sentence on what their values show)."""

    title: str
    columns: list[Column]
    rows: list[Row]
    claims: list[tuple[str, str]]
    absent: dict[str, list[str]] = field(default_factory=dict)
    """Metrics that no run has, by reason."""
    unfolded: bool = True


def tables(group: Group, unranked: dict[str, str]) -> list[Table]:
    """A short table, then one per section; likelihood metrics have one table per likelihood.

    ``unranked`` maps metrics that must not be ranked to the reason.
    """
    glance = [name for name in GLANCE if len(group.likelihoods) == 1 or CATALOGUE[name].section != LIKELIHOOD]
    glance = ["flops_per_image" if name == "seconds" and name in unranked else name for name in glance]
    found = [_table("At a glance", glance, group.seed_groups, group, unranked)]
    for section, names in _sections().items():
        parts = group.likelihoods if section == LIKELIHOOD else {"": group.seed_groups}
        for likelihood, seed_groups in parts.items():
            title = section[0].upper() + section[1:] + (f": {likelihood}" if likelihood else "")
            found.append(_table(title, names, seed_groups, group, unranked, section=section))
    return [table for table in found if table.columns]


def _sections() -> dict[str, list[str]]:
    """Metrics by table: one per section, except generation, which is divided by source because it is too wide.

    PSNR is beside rFID too: reconstructions may look like images, and not like theirs.
    """
    found: dict[str, list[str]] = {}
    for name, metric in CATALOGUE.items():
        source = SOURCES.get(name.partition("_")[0], "") if metric.section == "generation" else ""
        if not name.startswith("floor_"):
            found.setdefault(metric.section + (f": {source}" if source else ""), []).append(name)
    next(names for names in found.values() if RFID in names).insert(0, "psnr")
    return found


def _table(
    title: str, names: Iterable[str], seed_groups: Sequence[SeedGroup], group: Group, unranked: dict[str, str],
    section: str = "",
) -> Table:  # fmt: skip
    names = list(names)
    present = [name for name in names if any(seed_group.values(name) for seed_group in seed_groups)]
    columns = [_column(name, seed_groups) for name in present]
    verdicts = {name: _judge(seed_groups, name, unranked) for name in present}
    cells = {name: _cells(seed_groups, column, verdicts[name]) for name, column in zip(present, columns, strict=True)}
    rows = [
        Row(seed_group.label, seed_group.objective, len(seed_group.records), group.seed_groups.index(seed_group), row)
        for at, seed_group in enumerate(seed_groups)
        for row in [[cells[name][at] for name in present]]
    ]
    absent: dict[str, list[str]] = {}
    for name in names:
        if name not in present and (reason := _why(seed_groups, name)):
            absent.setdefault(reason, []).append(metric_label(name))
    references = _references(seed_groups, columns) if section else []
    return Table(
        title,
        columns,
        rows + references,
        _claims(seed_groups, verdicts),
        absent,
        not section or section.partition(":")[0] in OPEN,
    )


def _judge(seed_groups: Sequence[SeedGroup], name: str, unranked: dict[str, str]) -> Verdict | None:
    found = verdict(seed_groups, name, CATALOGUE[name].better)
    if found is None or name not in unranked:
        return found
    return Verdict("none", "", (), f"not ranked, because {unranked[name]} (see Fairness)")


def _claims(seed_groups: Sequence[SeedGroup], verdicts: dict[str, Verdict | None]) -> list[tuple[str, str]]:
    """What the values of each metric show; metrics with the same sentence are merged."""
    found: dict[str, list[str]] = {}
    for name, judged in verdicts.items():
        if judged is not None:
            sentence = _one_seed(seed_groups) if judged.status == "untested" else judged.sentence
            found.setdefault(sentence, []).append(metric_label(name))
    if len(found) == 1:
        return [("all metrics", sentence) for sentence in found]
    return [(", ".join(names), sentence) for sentence, names in found.items()]


def _one_seed(seed_groups: Sequence[SeedGroup]) -> str:
    single = [seed_group.label for seed_group in seed_groups if len(seed_group.records) == 1]
    who = "each model" if len(single) == len(seed_groups) else " and ".join(single)
    return (
        f"with one seed for {who}, differences cannot be tested; the best value is in bold, but other seeds may differ"
    )


def _why(seed_groups: Sequence[SeedGroup], name: str) -> str:
    return next((reason for seed_group in seed_groups if (reason := seed_group.reason(name))), "")


def _column(name: str, seed_groups: Sequence[SeedGroup]) -> Column:
    metric = CATALOGUE[name]
    sizes = {seed_group.sizes(name) for seed_group in seed_groups if seed_group.values(name)}
    common = sizes.pop() if len(sizes) == 1 else ""
    return Column(metric, metric_label(name), UNITS.get(name, metric.unit), SCALES.get(name, 1.0), common)


def _cells(seed_groups: Sequence[SeedGroup], column: Column, judged: Verdict | None) -> list[Cell]:
    """The cells of a column; their dots and bars share one scale."""
    name = column.metric.name
    estimates = [estimate(seed_group.values(name)) for seed_group in seed_groups]
    ends = [end for found in estimates if found is not None for end in _ends(found)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    error = max((seed_group.error(name) or 0.0 for seed_group in seed_groups), default=0.0)
    return [
        Cell("n/a", tip=seed_group.reason(name) or "not available for this run")
        if found is None
        else _cell(seed_group, column, found, judged, low, high, error)
        for seed_group, found in zip(seed_groups, estimates, strict=True)
    ]


def _ends(found: Estimate) -> list[float]:
    half = found.half or 0.0
    return [*found.values.values(), found.mean - half, found.mean + half]


def _cell(
    seed_group: SeedGroup, column: Column, found: Estimate, judged: Verdict | None, low: float, high: float,
    error: float,
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
        _mark(seed_group, judged),
        _tip(seed_group, column, found, judged),
        dots,
        (place(found.mean - found.half), place(found.mean + found.half)) if found.half else None,
        "" if column.sizes else seed_group.sizes(column.metric.name),
    )


def _known_to(found: Estimate, column: Column, error: float) -> float | None:
    """Uncertainty that limits a mean's digits: the larger of its half-width over seeds and ten standard errors.

    Ten, so that the last of two digits is the first digit of the standard error over images: 108.2 for 0.6.
    """
    return max(found.half or 0.0, 10 * error) / column.scale or None


def _interval(half: float, known: float | None) -> str:
    """The half-width of an interval with as many decimals as its mean, but at least one non-zero digit."""
    text = figures(half, known)
    return text if text.strip("0.") else figures(half, 10 * half)


def _mark(seed_group: SeedGroup, judged: Verdict | None) -> str:
    if judged is None or judged.status == "none":
        return ""
    if seed_group.label == judged.leader:
        return {"best": "best", "ahead": "ahead"}.get(judged.status, "lead")
    return "level" if seed_group.label in judged.level_with else ""


def _tip(seed_group: SeedGroup, column: Column, found: Estimate, judged: Verdict | None) -> str:
    name = column.metric.name
    number = next(record.numbers[name] for record in seed_group.records if record.seed in found.values)
    sizes = ", ".join(f"{key} = {value}" for key, value in number.sizes)
    spread = "95% t-interval over seeds" if found.half is not None else "no interval from one seed"
    parts = [column.metric.text, f"{len(found.values)} of {len(seed_group.records)} seeds, {spread}."]
    parts += [f"{sizes}."] if sizes else []
    parts += [f"{judged.sentence}."] if judged is not None and judged.leader == seed_group.label else []
    return " ".join(parts)


def _references(seed_groups: Sequence[SeedGroup], columns: Sequence[Column]) -> list[Row]:
    """Reference rows: PCA, an untrained encoder, the factors, and the distances of training images."""
    rows: dict[str, Row] = {}
    for seed_group in seed_groups:
        for name, reference in seed_group.first.evaluation.get("references", {}).items():
            metrics = reference.get("metrics", {})
            values = [finite(metrics.get(column.metric.name, {}).get("value")) for column in columns]
            label = REFERENCES.get(name, name)
            _add_reference(rows, f"{label}, as for {seed_group.label}", label, columns, values)
        floors = [seed_group.first.value(_floor(column.metric.name)) for column in columns]
        _add_reference(rows, f"training images, as for {seed_group.label}", "training images", columns, floors)
    return list(rows.values())


def _add_reference(
    rows: dict[str, Row], longer: str, label: str, columns: Sequence[Column], values: Sequence[float | None]
) -> None:
    if all(value is None for value in values):
        return
    cells = [_reference_cell(column, value) for column, value in zip(columns, values, strict=True)]
    alike = label in rows and [cell.text for cell in rows[label].cells] == [cell.text for cell in cells]
    if not alike:
        free = longer if label in rows else label
        rows[free] = Row(free, "reference", 0, None, cells)


def _reference_cell(column: Column, value: float | None) -> Cell:
    return Cell("", value=None) if value is None else Cell(figures(value / column.scale, None), value=value)


def _floor(name: str) -> str:
    """The floor of a distance, such as ``floor_fd_classifier`` for ``prior_fd_classifier``; else an empty string."""
    _, _, rest = name.partition("_")
    return f"floor_{rest}" if rest.startswith(("fd_", "kd_")) else ""
