"""Tables of a comparison as CSV, LaTeX and Markdown."""

import csv
import io
from collections.abc import Sequence

from vaezoo.comparison import Group, SeedGroup, estimate
from vaezoo.comparison.report.tables import Cell, Column, Table
from vaezoo.metrics.catalogue import CATALOGUE

GREEK = {name: "\\" + name for name in ("alpha", "beta", "gamma", "delta", "lambda", "sigma", "tau")}
"""Settings that papers write as Greek letters."""


def as_csv(groups: Sequence[Group]) -> str:
    """One row per seed group: mean, 95% interval and values by seed of every metric."""
    names = [name for name in CATALOGUE if any(v.values(name) for group in groups for v in group.seed_groups)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    parts = ("", "_low", "_high", "_seeds")
    writer.writerow(["data", "model", "objective", "likelihood", "seeds", *(n + part for n in names for part in parts)])
    for group in groups:
        for seed_group in group.seed_groups:
            seeds = " ".join(map(str, seed_group.seeds))
            numbers = [part for name in names for part in _csv_parts(seed_group, name)]
            texts = (group.name, seed_group.label, seed_group.objective, seed_group.likelihood)
            writer.writerow([*map(_csv_text, texts), seeds, *numbers])
    return file.getvalue()


def _csv_text(text: str) -> str:
    """Prevent spreadsheets from reading text as a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _csv_parts(seed_group: SeedGroup, name: str) -> list[str]:
    found = estimate(seed_group.values(name))
    if found is None:
        return [""] * 4
    ends = ["", ""] if found.half is None else [f"{found.mean - found.half:.8g}", f"{found.mean + found.half:.8g}"]
    return [f"{found.mean:.8g}", *ends, " ".join(f"{value:.8g}" for value in found.values.values())]


def as_latex(parts: Sequence[tuple[str, Table]]) -> str:
    """LaTeX tables (booktabs) from (title, table) pairs."""
    return "\n".join(_latex(name, table) for name, table in parts)


def _latex(name: str, table: Table) -> str:
    arrows = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", "": ""}
    heads = [f"{_tex(column.title)} {arrows[column.metric.better]}".strip() for column in table.columns]
    lines = [f"% {_tex(name)}; mean and 95% t-interval over seeds; bold: the best mean, whether tested or not"]
    lines += [f"% {_tex(column.title)}: {column.sizes}" for column in table.columns if column.sizes]
    lines += [f"% {_tex(names)}: {_tex(sentence)}" for names, sentence in table.claims]
    lines += [rf"\begin{{tabular}}{{lr{'r' * len(heads)}}}"]
    lines += [r"\toprule", " & ".join(["Model", "Seeds", *heads]) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = [_tex_cell(cell) for cell in row.cells]
        lines.append(" & ".join([_tex_label(row.label), str(row.seeds), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex_cell(cell: Cell) -> str:
    if cell.value is None:
        return "--"
    text = cell.text.replace("−", "-") + (rf" \pm {cell.half}" if cell.half else "")
    return rf"$\mathbf{{{text}}}$" if cell.leads else f"${text}$"


def _tex_label(label: str) -> str:
    """A label with Greek letters for the settings named after them: BetaVAE, $\\beta = 4$."""
    name, *settings = label.split(" ")
    parts = [part.partition("=") for part in settings]
    return ", ".join(
        [
            _tex(name),
            *(
                rf"${GREEK[key]} = {_tex(value)}$" if key in GREEK else _tex(key + sign + value)
                for key, sign, value in parts
            ),
        ]
    )


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "β": r"$\beta$"}
    special |= {letter: "\\" + letter for letter in "&%$#_{}"}
    return "".join(special.get(letter, letter) for letter in text)


def as_markdown(table: Table) -> str:
    """A Markdown table, followed by its claims."""
    heads = ["model", "seeds", *(_md(_head(column)) for column in table.columns)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in table.rows:
        cells = [f"{cell.text} ± {cell.half}" if cell.half else cell.text for cell in row.cells]
        cells = [f"**{text}**" if cell.leads else text for text, cell in zip(cells, row.cells, strict=True)]
        lines.append(f"| {' | '.join([_md(row.label), str(row.seeds or ''), *cells])} |")
    lines += ["", *(f"- {_md(names)}: {_md(sentence)}." for names, sentence in table.claims), ""]
    return "\n".join(lines)


def _head(column: Column) -> str:
    arrow = f"\u00a0{column.metric.arrow}" if column.metric.arrow else ""
    return column.title + arrow + (f" ({column.sizes})" if column.sizes else "")


def _md(text: str) -> str:
    return escape_markup(text).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def escape_markup(text: str) -> str:
    """Escape characters that would create HTML elements or links in Markdown."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[")
