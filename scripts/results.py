"""Results for the documentation: python scripts/results.py train [STUDY...] --out DIR, then write [STUDY...] --out DIR.

``train`` runs the commands of docs/results/studies.yaml one after another: benchmarks, which can be stopped and
resumed, and the yardstick. ``write`` reads their results and writes docs/results/STUDY.json and docs/results.md;
without --out it writes the page again from the numbers that are there. With --add, it adds runs of further seeds to
the stored ones: of a study that takes long, DIR/STUDY may have some of the seeds on one day and the rest on another.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import yaml
from PIL import Image

from vaezoo.benchmark.display import duration
from vaezoo.comparison import records
from vaezoo.comparison.groups import SeedGroup, group
from vaezoo.comparison.statistics import Difference, difference, estimate, figures
from vaezoo.config.errors import ConfigError, RunError, VaezooError
from vaezoo.metrics.catalogue import CATALOGUE
from yardstick import results

ROOT = Path(__file__).resolve().parent.parent
PICTURE_WIDTH = 900
RESULTS = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"

STATES = {"quiet": [], "busy": ["--busy", "2"]}
"""What the yardstick measures on: a machine without other work, and beside two processes that keep computing."""

PUBLISHED_PRECISION = 0.1
"""Papers give bounds to hundredths of a nat, and intervals of tenths."""

Study = dict[str, Any]
"""``title``, ``text``, ``commands``, ``metrics``, and ``expected`` differences between rows of the table, or to a row
of another ``study``.

``across`` has a setting whose values take the place of seeds, ``picture`` a ``file`` of the runs and its ``alt`` text,
``published`` the ``values`` of a ``metric`` that papers give for rows of the table, and their ``budget``.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "write"))
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="names in studies.yaml; all by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the runs")
    parser.add_argument("--add", action="store_true", help="add further seeds to the stored numbers")
    options = parser.parse_args(arguments)
    try:
        chosen = choose(options.studies)
        if options.verb == "train":
            if options.out is None:
                raise ConfigError("train needs --out DIR, a folder for the runs")
            return train(chosen, options.out)
        for name, study in chosen.items() if options.out is not None else ():
            copy_picture(name, study, options.out / name)
            if "yardstick" in study:
                found = read_yardstick(study, options.out / name)
            else:
                found = collect(study, options.out / name, stored(name) if options.add else None)
            (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        PAGE.write_text(page())
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def copy_picture(name: str, study: Study, folder: Path) -> None:
    """Keep a small copy of the study's picture, if it has one; RunError if it is not there."""
    if "picture" not in study:
        return
    try:
        with Image.open(folder / study["picture"]["file"]) as found:
            small = found.convert("RGB")
    except OSError as error:
        raise RunError(f"there is no {study['picture']['file']} in {folder}; train the study first") from error
    small.thumbnail((PICTURE_WIDTH, 2 * PICTURE_WIDTH))
    few = small.quantize(256, method=Image.Quantize.MAXCOVERAGE)  # keeps rare colours, which tell models apart
    few.save(picture_of(name), optimize=True)


def picture_of(name: str) -> Path:
    """The picture of a study."""
    return PAGE.parent / "pictures" / f"results_{name}.png"


def studies() -> dict[str, Study]:
    """All studies by name."""
    found: dict[str, Study] = yaml.safe_load((RESULTS / "studies.yaml").read_text())
    return found


def choose(names: Sequence[str]) -> dict[str, Study]:
    """The studies with these names, or all; ConfigError for an unknown one."""
    known = studies()
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"there is no study {unknown[0]!r}; choose from {', '.join(known)}")
    return {name: known[name] for name in names or known}


def commands(study: Study, out: Path | str) -> list[list[str]]:
    """The commands of a study, benchmarks or those of the yardstick, with their output folders in ``out``."""
    if "yardstick" in study:
        words = ["python", "scripts/throughput.py", *shlex.split(study["yardstick"])]
        return [[*words, *more, "--out", f"{out}/{state}"] for state, more in STATES.items()]
    return [_command(shlex.split(text), out, number) for number, text in enumerate(study["commands"], 1)]


def _command(words: list[str], out: Path | str, number: int) -> list[str]:
    """A benchmark, the ``number``-th command of a study, or ``prior RUN ...`` for a run of one before it."""
    if words[0] == "prior":
        return ["vaezoo", "prior", f"{out}/{words[1]}", *words[2:]]
    return ["vaezoo", "benchmark", *words, f"out={out}/{number}"]


def train(chosen: Mapping[str, Study], out: Path) -> int:
    """Run the commands of the studies; returns the first exit code that is not 0."""
    for name, study in chosen.items():
        for command in commands(study, out / name):
            print("$", shlex.join(command), flush=True)
            words = ["-m", *command] if command[0] == "vaezoo" else [str(ROOT / command[1]), *command[2:]]
            code = subprocess.run([sys.executable, *words]).returncode
            if code:
                return code
    return 0


# numbers of a study --------------------------------------------------------------------------------------------------


def stored(name: str) -> dict[str, Any]:
    """The stored numbers of a study; RunError if there are none."""
    try:
        found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    except OSError as error:
        raise RunError(f"there are no numbers of the study {name} in {RESULTS}; train and write it first") from error
    return found


def collect(study: Study, folder: Path, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All numbers of a study that the page shows, from its runs and those ``before``; RunError if any are missing."""
    if not folder.is_dir():
        raise RunError(f"there are no runs in {folder}; train the study first")
    found, refused = records.gather(sorted(folder.iterdir()))
    if refused:
        raise RunError(f"{refused[0].path} cannot be used: {refused[0].reason}")
    groups = group(across(found, study["across"]) if "across" in study else found)
    if len(groups) != 1:
        raise RunError(f"the runs in {folder} must be on the same data, got {[one.name for one in groups]}")
    rows: dict[str, Any] = {row.label: row for row in groups[0].seed_groups}
    new: dict[str, Any] = {
        "data": groups[0].name,
        "environment": environment(found),
        "seconds": seconds(found),
        "rows": {label: numbers(row, study["metrics"]) for label, row in rows.items()},
    }
    if before is not None:
        new = added(before, new)
        rows = new["rows"]
    return {**new, "differences": [compare(rows, wanted, replicates(study)) for wanted in study.get("expected", [])]}


def added(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of the same rows with the seeds of both; RunError if anything but the seeds differs."""
    for name in ("data", "environment"):
        if before[name] != new[name]:
            raise RunError(f"runs can be added to those with the same {name}, {before[name]}, but have {new[name]}")
    if before["rows"].keys() != new["rows"].keys():
        wanted, got = (", ".join(found["rows"]) for found in (before, new))
        raise RunError(f"further seeds must have the rows {wanted}, but the rows are {got}")
    spent = {part: value + new["seconds"][part] for part, value in before["seconds"].items()}
    rows = {label: _more_seeds(label, row, new["rows"][label]) for label, row in before["rows"].items()}
    return {**new, "seconds": spent, "rows": rows}


def _more_seeds(label: str, before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    if twice := sorted(set(before["seeds"]) & set(new["seeds"])):
        raise RunError(f"seed {twice[0]} of {label} is stored already; leave it out, or write without --add")
    for name in ("objective", "steps", "sizes"):
        if before[name] != new[name]:
            raise RunError(f"{label} is stored with the {name} {before[name]}, but the runs have {new[name]}")
    metrics = {name: {**values, **new["metrics"][name]} for name, values in before["metrics"].items()}
    return {**before, "seeds": sorted([*before["seeds"], *new["seeds"]]), "metrics": metrics}


def across(found: Sequence[records.RunRecord], setting: Mapping[str, str]) -> list[records.RunRecord]:
    """Runs whose values of a setting, numbers alone in lists such as [3], take the place of seeds."""
    part, _, name = setting["setting"].partition(".")
    taken = []
    for record in found:
        (value,) = record.config[part][name]
        rest = {key: one for key, one in record.config[part].items() if key != name}
        taken.append(
            replace(record, config={**record.config, part: rest}, summary={**record.summary, "seed": int(value)})
        )
    return taken


def replicates(study: Study) -> str:
    """What intervals are over: seeds, or the values of a setting."""
    return str(study["across"]["name"]) if "across" in study else "seeds"


def read_yardstick(study: Study, folder: Path) -> dict[str, Any]:
    """Speeds of models by processor time, and what a step costs relative to the VAE's, in each state of the machine."""
    found = {state: _read_turns(folder / state) for state in STATES}
    quiet, busy = ((results.machine_line({**one["machine"], "busy": 0}), one["repeats"]) for one in found.values())
    if quiet != busy:
        raise RunError(f"{folder} has measurements of different machines or numbers of turns; train the study again")
    rows: dict[str, dict[str, Any]] = {}
    for state, of in found.items():
        for one in of["summary"]:
            rows.setdefault(one["contestant"].removeprefix("model="), {})[state] = _speed_and_cost(one)
    return {"machine": quiet[0], "repeats": quiet[1], "rows": rows}


def _read_turns(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "throughput.json").read_text())
    except OSError as error:
        raise RunError(f"there is no throughput.json in {folder}; train the study first") from error
    return found


def _speed_and_cost(one: Mapping[str, Any]) -> dict[str, Any]:
    ratio = one.get("ratio_to_model=vae")
    costs = [1 / ratio[key] for key in ("median", "largest", "least")] if ratio else [1.0] * 3
    return {results.CPU_SPEED: one[results.CPU_SPEED]["median"], "cost": costs}


def environment(found: Sequence[records.RunRecord]) -> dict[str, Any]:
    """Versions that all runs were trained with, in words."""
    kept = ("python", "torch", "lightning", "vaezoo")
    seen = [{key: record.summary["environment"].get(key) for key in kept} for record in found]
    if any(other != seen[0] for other in seen):
        raise RunError("the runs were trained with different versions; train all of a study with the same ones")
    return seen[0]


def seconds(found: Sequence[records.RunRecord]) -> dict[str, float]:
    """Wall-clock time of training and of evaluation, summed over runs."""
    return {
        "training": sum(record.summary["cost"]["seconds"] for record in found),
        "evaluation": sum(record.evaluation["seconds"] for record in found),
    }


def numbers(row: SeedGroup, metrics: Sequence[str]) -> dict[str, Any]:
    """Objective, seeds and steps of a row of the table, and its metrics by seed."""
    return {
        "objective": row.objective,
        "seeds": row.seeds,
        "steps": row.first.summary["steps"],
        "metrics": {name: {str(seed): value for seed, value in row.values(name).items()} for name in metrics},
        "sizes": {name: row.sizes(name) for name in metrics},
        "reasons": {name: row.reason(name) for name in metrics if not row.values(name)},
    }


def compare(rows: Mapping[str, Any], wanted: Mapping[str, Any], over: str = "seeds") -> dict[str, Any]:
    """A difference of two rows, and whether it is at least, or at most, what was expected."""
    first = row_of(rows, wanted["first"])
    second = row_of(stored(wanted["study"])["rows"] if "study" in wanted else rows, wanted["second"])
    names = [wanted["metric"]] if isinstance(wanted["metric"], str) else wanted["metric"]
    if len(names) == 1 and isinstance(first, SeedGroup) and isinstance(second, SeedGroup):
        found = difference(first, second, names[0])
    else:
        found = within_seeds(wanted, values_by_seed(first, names[0]), values_by_seed(second, names[-1]))
    if found is None:
        raise RunError(f"{wanted['first']} or {wanted['second']} has no {' or '.join(names)}")
    holds = found.mean >= wanted["least"] if "least" in wanted else found.mean <= wanted["most"]
    kept = {"mean": found.mean, "half": found.half, "p": found.p, "method": found.method.replace("seeds", over)}
    return {**wanted, **kept, "holds": holds}


def row_of(rows: Mapping[str, Any], label: str) -> Any:
    """A row by its label; RunError if it is not there."""
    if label not in rows:
        raise RunError(f"there is no row {label!r}; the rows are {', '.join(rows)}")
    return rows[label]


def values_by_seed(row: SeedGroup | Mapping[str, Any], metric: str) -> dict[int, float]:
    """A metric of a row, of runs or of stored numbers, by seed."""
    if isinstance(row, SeedGroup):
        return row.values(metric)
    return {int(seed): value for seed, value in row["metrics"][metric].items()}


def within_seeds(
    wanted: Mapping[str, Any], above: Mapping[int, float], below: Mapping[int, float]
) -> Difference | None:
    """Values of the first row minus those of the second, paired over seeds; None without a seed of both."""
    gaps = estimate({seed: above[seed] - below[seed] for seed in above if seed in below})
    if gaps is None:
        return None
    method = "" if gaps.half is None else "paired over seeds"
    return Difference(wanted["first"], wanted["second"], gaps.mean, gaps.half, None, method)


# the page ------------------------------------------------------------------------------------------------------------

BEGINNING = """\
# Results

Every number in the tables comes from runs, and the commands beside it reproduce them; values of papers are marked as
published.

```bash
python scripts/results.py train STUDY --out runs/results     # or the commands by hand; data.root= says where images are
python scripts/results.py write STUDY --out runs/results     # this page and docs/results/STUDY.json
```

Values are means over seeds with the half-width of their 95% t-interval. **Bold** is the best mean, which need not be
that of the best model. Differences are paired over seeds and, where there is a value for each test image, over images
(see [what the statistics mean](compare.md#what-the-statistics-mean)); their intervals and p-values are those of single
differences, not corrected for their number.
Budgets are small, so that two processor cores are enough; what they leave open is said. Durations are sums over the
runs, most of which had one thread of a busy processor. Expectations were written down
before the runs, and those that were not met are marked.
"""


def page() -> str:
    """The page, from studies.yaml and the numbers in docs/results."""
    parts = [BEGINNING]
    for name, study in studies().items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            parts.append(section(name, study, json.loads(path.read_text())))
    return "\n".join(parts)


def section(name: str, study: Study, found: Mapping[str, Any]) -> str:
    """A study: question, commands, table and differences."""
    shown = "\n".join(shlex.join(command) for command in commands(study, f"runs/results/{name}"))
    lines = [f"## {study['title']}\n", wrapped(study["text"]) + "\n", f"```bash\n{shown}\n```\n"]
    if "yardstick" in study:
        lines += [f"{found['machine']} {found['repeats']} turns.\n", costs(found["rows"])]
        return "\n".join([*lines, *closing(study)]) + "\n"
    steps = sorted({row["steps"] for row in found["rows"].values()})
    budget = " or ".join(f"{count:,}" for count in steps)
    versions = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    lines += [
        wrapped(f"{found['data']}; {budget} optimiser steps; {versions}.{took(found)}") + "\n",
        table(study["metrics"], found["rows"], replicates(study)),
    ]
    if "published" in study:
        lines += ["", beside_published(study["published"], found["rows"])]
    if found["differences"]:
        lines.append("")
        lines += [f"- {in_words(one)}" for one in found["differences"]]
    if "picture" in study:
        lines.append(f"\n![{study['picture']['alt']}](pictures/{picture_of(name).name})")
    return "\n".join([*lines, *closing(study)]) + "\n"


def took(found: Mapping[str, Any]) -> str:
    """How long the runs took one by one, as a sentence; empty if that is not stored."""
    if "seconds" not in found:
        return ""
    count = sum(len(row["seeds"]) for row in found["rows"].values())
    of = "" if count == 1 else f", summed over {count} runs"
    training, evaluation = (duration(found["seconds"][part]) for part in ("training", "evaluation"))
    return f" Training took {training} and evaluation {evaluation}{of}."


def anchor(title: str) -> str:
    """What a link to a heading with this title ends in."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def wrapped(text: str) -> str:
    """A paragraph in lines, whose links stay whole."""
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def closing(study: Study) -> list[str]:
    """What can be concluded, if the study says so."""
    return ["", wrapped(study["conclusion"])] if "conclusion" in study else []


def counted(row: Mapping[str, Any], study: Study) -> str:
    """How many values a mean of a row is of, such as "3 seeds"."""
    count, over = len(row["seeds"]), replicates(study)
    return f"1 {over.removesuffix('s')}" if count == 1 else f"{count} {over}"


def costs(rows: Mapping[str, Any]) -> str:
    """Models by the cost of their step on a quiet machine, with the range over turns."""
    heads = ["`model=`", "images per second", "the same, busy", "cost of a step, relative to `vae`", "the same, busy"]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["quiet"]["cost"][0]):
        speeds = [format(row[state][results.CPU_SPEED], ",.0f") for state in STATES]
        lines.append([f"`{name}`", *speeds, *(cost_in_words(*row[state]["cost"]) for state in STATES)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost_in_words(middle: float, least: float, largest: float) -> str:
    """A ratio, with its range unless that rounds to nothing."""
    shown, low, high = (f"{cost:.1f}" for cost in (middle, least, largest))
    return shown if low == high else f"{shown} ({low} to {high})"


def table(metrics: Sequence[str], rows: Mapping[str, Any], over: str = "seeds") -> str:
    """Rows by label, with a column for each metric, the number of seeds and, below, the numbers of images."""
    heads = ["", *(f"{head(name)}" for name in metrics), over]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    leading = {name: best(name, [row["metrics"][name] for row in rows.values()]) for name in metrics}
    for label, row in rows.items():
        cells = [cell(row["metrics"][name], bold=mean(row["metrics"][name]) == leading[name]) for name in metrics]
        lines.append([label, *cells, str(len(row["seeds"]))])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    sizes = {name: next((row["sizes"][name] for row in rows.values() if row["sizes"][name]), "") for name in metrics}
    said = "; ".join(f"{name}: {size}" for name, size in sizes.items() if size)
    return f"{text}\n\n{said}." if said else text


def beside_published(published: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Rows with a published value, their own mean and the difference; RunError for a row that is not there."""
    metric = published["metric"]
    lines = [f"Published values were reached with {published['budget']}:\n"]
    lines += [f"|  | `{metric}`, published | here | difference |", "| --- | ---: | ---: | ---: |"]
    for label, value in published["values"].items():
        if label not in rows:
            raise RunError(f"there is no row {label!r} beside a published value; the rows are {', '.join(rows)}")
        own = mean(rows[label]["metrics"][metric])
        assert own is not None
        cells = figures(value, PUBLISHED_PRECISION), cell(rows[label]["metrics"][metric])
        lines.append(f"| {label} | {' | '.join(cells)} | {figures(own - value, PUBLISHED_PRECISION)} |")
    return "\n".join(lines)


def head(name: str) -> str:
    return f"`{name}` {CATALOGUE[name].arrow}".strip()


def best(name: str, rows: Sequence[Mapping[str, float]]) -> float | None:
    """The best mean of a metric over several rows; None if there is no better direction or only one row has values."""
    means = [found for found in map(mean, rows) if found is not None]
    better = CATALOGUE[name].better
    return None if not better or len(means) < 2 else max(means) if better == "higher" else min(means)


def mean(values: Mapping[str, float]) -> float | None:
    """The mean of the values by seed, if there are any."""
    return sum(values.values()) / len(values) if values else None


def cell(values: Mapping[str, float], *, bold: bool = False) -> str:
    """A mean with its interval; n/a without values."""
    found = estimate({int(seed): value for seed, value in values.items()})
    if found is None:
        return "n/a"
    text = figures(found.mean, found.half)
    text = f"**{text}**" if bold else text
    return text if not found.half else f"{text} ± {figures(found.half, found.half)}"


def in_words(one: Mapping[str, Any]) -> str:
    """A difference, with what was expected of it."""
    names = [one["metric"]] if isinstance(one["metric"], str) else one["metric"]
    first, second = f"{one['first']}, {names[0]}", f"{one['second']}, {names[-1]}"
    if "study" in one:
        title = studies()[one["study"]]["title"]
        second += f" of [{title.lower()}](#{anchor(title)})"
    gap = figures(one["mean"], one["half"])
    gap += f" ± {figures(one['half'], one['half'])}" if one["half"] else ""
    sure = f", p {'< 0.001' if one['p'] < 0.001 else '= ' + format(one['p'], '.3f')}" if one["p"] is not None else ""
    method = f"{one['method']}{sure}" if one["method"] else "one seed, not tested"
    bound = f"at least {one['least']:g}" if "least" in one else f"at most {one['most']:g}"
    outcome = "as expected" if one["holds"] else "**not as expected**"
    if one["half"] and abs(one["mean"] - one.get("least", one.get("most"))) < one["half"]:
        outcome += ", but the interval includes this bound"
    return f"{first} − {second}: {gap} ({method}); expected {bound}: {outcome}."


if __name__ == "__main__":
    sys.exit(main())
