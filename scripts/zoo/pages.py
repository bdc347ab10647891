"""The pages of docs/zoo: one for each model, the index of families and the settings that many models have."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import results
import vaezoo.models
from vaezoo.benchmark import grid
from vaezoo.commands import model_table
from vaezoo.metrics.catalogue import CATALOGUE
from vaezoo.runs.user_code import UserCode
from zoo import formulas, runs, settings
from zoo.docstrings import Described, described

SHOWN = "runs/zoo"
"""The folder of the runs in commands on the pages."""


def write() -> None:
    """Write all pages."""
    for path, text in pages().items():
        path.write_text(text)


def pages() -> dict[Path, str]:
    """The text of every page that is made, by its path."""
    named = {f"{row.name}.md": page(row) for row in rows()}
    found = {"index.md": index(), "settings.md": settings_page(), **named}
    return {runs.PAGES / name: text for name, text in found.items()}


@cache
def rows() -> list[model_table.Row]:
    """The models of the zoo, as ``vaezoo list models`` has them."""
    return model_table.rows(UserCode())


def class_of(name: str) -> type:
    """The class of a model of the zoo."""
    [target] = re.findall(r"^_target_: vaezoo\.models\.(\w+)$", (settings.MODELS / f"{name}.yaml").read_text(), re.M)
    found: type = getattr(vaezoo.models, target)
    return found


def extended(name: str) -> str | None:
    """The model of the zoo whose class a model's class extends."""
    names = {class_of(row.name): row.name for row in rows()}
    return next((names[cls] for cls in class_of(name).__mro__[1:] if cls in names), None)


# a model -------------------------------------------------------------------------------------------------------------


def page(row: model_table.Row) -> str:
    """The page of a model."""
    notes, about = runs.notes()["presets"][row.name], described(class_of(row.name))
    found = json.loads(runs.NUMBERS.read_text())[row.name]
    parts = [
        f"# {row.name}",
        _introduction(row, about),
        *papers(about.papers),
        f"```bash\npython train.py model={row.name}\n```",
        "## When to use it",
        notes["when"].strip(),
        "## What to set",
        notes["set"].strip(),
        "## Pitfalls",
        notes["pitfalls"].strip(),
        "## What it minimises",
        *_objective(row, about),
        "## A small run",
        *_small_run(row.name, notes, found),
        "## Settings",
        *_settings(row.name),
        *_studies(row.name),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(row: model_table.Row, about: Described) -> str:
    paper = f" ({about.papers})" if about.papers else ""
    family = next(family for family in runs.notes()["families"] if row.name in family["models"])
    parent = extended(row.name)
    more = "" if parent is None else f" It extends [{parent}]({parent}.md)."
    need = f" It needs {row.needs}." if row.needs else ""
    link = f"[{family['title']}](families.md#{results.anchor(family['title'])})"
    return f"{about.sentence}{paper}.{more}{need} Family: {link}."


def papers(cited: str) -> Iterator[str]:
    """The papers that a docstring cites, such as "Dupont, 2018, equation 7; ...", with their titles."""
    known = runs.notes()["papers"]
    found = [known[authors] for authors in filter(None, map(authors, cited.split("; ")))]
    if found:
        titles = [f"*{paper['title']}* ({_where(paper['where'])})" for paper in found]
        yield f"{'Paper' if len(titles) == 1 else 'Papers'}: {', '.join(titles)}."


def authors(citation: str) -> str:
    """Authors and year, without the equation."""
    return ", ".join(citation.split(", ")[:2])


ARCHIVES = {"arXiv:": "https://arxiv.org/abs/", "doi:": "https://doi.org/"}


def _where(text: str) -> str:
    """Where a paper is, as a link if it can be one."""
    for prefix, address in ARCHIVES.items():
        if text.startswith(prefix):
            return f"[{text}]({address}{text.removeprefix(prefix)})"
    return f"[OpenReview]({text})" if text.startswith("https://openreview.net/") else text


def _objective(row: model_table.Row, about: Described) -> Iterator[str]:
    yield "In nats per image, averaged over a batch:"
    for who, text in formulas.equations(row.objective, of_labels="labels" in row.needs).items():
        if who:
            yield f"For {who}:"
        yield f"$$\n{text}\n$$"
    yield f"A run prints it as `{row.objective}`."
    if terms := formulas.meanings(row.objective):
        yield "\n".join(f"- `{name}`: {meaning}" for name, meaning in terms.items())
    yield from about.paragraphs


def _settings(name: str) -> Iterator[str]:
    arguments = described(class_of(name)).arguments
    if table := settings.table_of_model(name):
        yield table
    if arguments:
        yield "\n".join(f"- {text}" for text in arguments)
    yield "Every model also has the [settings of many models](settings.md)."


def _small_run(name: str, notes: runs.Preset, found: dict[str, Any]) -> Iterator[str]:
    yield f"![{name}: test images, reconstructions, an interpolation and samples](pictures/{name}.png)"
    yield f"```bash\n{shlex.join(runs.command(name, notes, SHOWN))}\n```"
    versions = ", ".join(f"{key} {value}" for key, value in found["environment"].items())
    made = f"python scripts/zoo_pages.py write {name} --out {SHOWN}"
    has_mixture = "mixture_fd_classifier" in found["metrics"]
    yield (
        f"{found['data']}; {found['steps']:,} optimiser steps; likelihood: {found['likelihood']}; {versions}. Drawn by"
        f" `{made}`.{' The mixture is [fitted to codes](fitted_priors.md).' if has_mixture else ''}"
    )
    yield _numbers(found)
    yield (
        "These are numbers of the short evaluation that ends every training, on the test set. The likelihood is a"
        " density of grey values, so `recon` can be negative and a bound positive. One seed and a small run rank"
        " nothing: compare models by the [studies](../results.md), or by a `vaezoo benchmark` of your own."
    )


def _numbers(found: dict[str, Any]) -> str:
    lines = ["| metric | value | |", "| --- | ---: | --- |"]
    for name, values in found["metrics"].items():
        unit = f"\N{NO-BREAK SPACE}{CATALOGUE[name].unit}" if CATALOGUE[name].unit in ("dB", "bits") else ""
        lines.append(f"| {results.head(name)} | {results.cell(values)}{unit} | {_in_cell(CATALOGUE[name].text)} |")
    return "\n".join(lines)


def _in_cell(text: str) -> str:
    return text.replace("|", r"\|")


def _studies(name: str) -> Iterator[str]:
    """The studies that train a model, with links and the numbers that they have for it."""
    found = {key: study for key, study in written().items() if name in models_of(study)}
    if found:
        yield from (
            "## Results",
            "\n".join(line for key, study in found.items() for line in _in_study(name, key, study)),
        )


def _in_study(name: str, key: str, study: results.Study) -> Iterator[str]:
    """A line for each row of the study's table that is of this model."""
    link = f"[{study['title']}](../results.md#{results.anchor(study['title'])})"
    found = results.stored(key)
    if "yardstick" in study:
        quiet, busy = (results.cost_in_words(*found["rows"][name][state]["cost"]) for state in results.STATES)
        yield f"- {link}: {quiet} times that of `vae`, and {busy} times on a busy machine"
        return
    for label, row in found["rows"].items():
        own, _, settings_of_row = label.partition(" ")
        if own == class_of(name).__name__:
            shown = f" with `{settings_of_row}`" if settings_of_row else ""
            values = [f"`{metric}` {results.cell(of)}" for metric, of in row["metrics"].items() if of]
            yield f"- {link}{shown}, {results.counted(row, study)}: {', '.join(values)}"


def written() -> dict[str, results.Study]:
    """The studies that are on the page of results."""
    return {name: study for name, study in results.studies().items() if (results.RESULTS / f"{name}.json").is_file()}


def models_of(study: results.Study) -> set[str]:
    """Names of the models that a study trains."""
    names: set[str] = set()
    for words in results.commands(study, "out"):
        if words[:2] == ["vaezoo", "benchmark"]:
            names |= set(grid.read(words[2:]).models)
        elif "--models" in words:
            names |= set(words[words.index("--models") + 1 : words.index("--repeats")])
    return names


# pages of many models ------------------------------------------------------------------------------------------------

INDEX = """\
# The zoo

{count} models, each a file in `configs/model` that `python train.py model=NAME` trains. Each has a page: when to use
it, its pitfalls, what it minimises, what a small run makes, and its settings. [families.md](families.md) says what the
models of a family teach and how to read their numbers. [learn.md](../learn.md) is an introduction for newcomers, and
[results.md](../results.md) has comparisons, some with several seeds.

`recon` is -log p(x|z), the distortion; `kl` is the rate. Both are in nats per image, and unweighted wherever they are
logged, so their values are comparable across models with the same likelihood and images. `elbo` is -recon - kl whatever
a model was trained on, and `best.ckpt` is chosen by it (by recon without a rate, by `elbo_given_label` for
`conditional_vae`; models with a critic of images have none). Likelihood, network, posterior, prior, bound and further
terms can be [set in most models](settings.md). Models without a prior are sampled from a [fitted
one](fitted_priors.md), and any model can have a [perceptual distance](perceptual.md). `vaezoo explore` shows several
models [in the browser](../use/explorer.md), and `vaezoo list models` prints the zoo with your own models in it.
"""

MADE = """\
## How these pages are made

```bash
python scripts/zoo_pages.py train --out runs/zoo     # a small run of each model, one after another; can be resumed
python scripts/zoo_pages.py write --out runs/zoo     # numbers, pictures and pages; without --out the pages alone
```

Objectives, explanations, settings and defaults come from the code, the other texts from `docs/zoo/notes.yaml`. A test
compares the pages with what the script writes. For a new model, add its notes and run both commands with its name.
"""

SETTINGS = """\
# Settings of many models

Set them as `python train.py model=NAME model.SETTING=VALUE`. `python train.py model=NAME --help` shows all settings of
one model. Parts can be combined; what does not fit together is refused in one sentence:

```bash
python train.py model=iwae model.prior=mixture 'model.prior_options={components: 50}'
python train.py model=vae model.posterior=full model.free_bits=0.5
python train.py model=vae model.penalty=total_correlation 'model.penalty_options={weight: 3}'
python train.py model=beta_vae model.beta=2 model.beta_schedule=linear
python train.py model=vqvae model.quantizer=fsq 'model.quantizer_options={levels: [8, 5, 5, 5]}'
python train.py model=conv_vae model.latent_dim=null model.code_channels=4
python train.py model=vae model.optimizer.lr=3e-4 +model.optimizer.weight_decay=0.01 callbacks=ema
```

[Train a model](../use/train.md) has the settings of training, [Speed](../speed.md) those of its pace.
"""

GROUPS = {
    "_shared": "Of every model",
    "_continuous": "Of models with continuous codes",
    "_vae": "Of VAEs",
}


def index() -> str:
    """The families, with a line for each model."""
    by_name = {row.name: row for row in rows()}
    parts = [INDEX.format(count=len(by_name))]
    for family in runs.notes()["families"]:
        more = f"[How to read their numbers](families.md#{results.anchor(family['title'])})."
        lines = [f"## {family['title']}\n", f"{family['text'].strip()} {more}\n"]
        lines += ["| `model=` | what it is | paper | minimises |", "| --- | --- | --- | --- |"]
        for name in family["models"]:
            sentence, row = described(class_of(name)).sentence, by_name[name]
            needed = f"; needs {row.needs}" if row.needs else ""
            lines.append(f"| [{name}]({name}.md) | {sentence}{needed} | {row.paper} | {_in_cell(row.objective)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, MADE])


def settings_page() -> str:
    """The settings of files that many models extend."""
    tables = [f"## {title}\n\n{settings.table_of_file(file)}\n" for file, title in GROUPS.items()]
    return "\n".join([SETTINGS, *tables])
