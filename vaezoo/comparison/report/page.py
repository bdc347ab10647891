"""Renders a report as HTML, from the template beside this file, and as Markdown."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vaezoo.comparison import Refusal
from vaezoo.comparison.report.charts import metric_label
from vaezoo.comparison.report.drawing import SERIES, colour, glyph
from vaezoo.comparison.report.exports import as_markdown, escape_markup
from vaezoo.comparison.report.part import Part
from vaezoo.config import VERSION
from vaezoo.metrics.catalogue import CATALOGUE


def render(parts: Sequence[Part], refused: Sequence[Refusal]) -> str:
    """Self-contained HTML with embedded style, script and images. All text from runs is escaped."""
    environment = Environment(
        loader=PackageLoader("vaezoo.comparison.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    functions: dict[str, Any] = {"colour": lambda index: f"var(--c{index % len(SERIES)})", "glyph": glyph}
    environment.globals |= functions | {"metric_label": metric_label}
    templates = files("vaezoo.comparison.report") / "templates"
    return environment.get_template("report.html").render(
        parts=parts,
        refused=refused,
        title=_title(parts),
        warnings=_warnings(parts),
        used=[CATALOGUE[name] for name in _used(parts)],
        series=[colour(index) for index in range(len(SERIES))],
        style=(templates / "style.css").read_text(),
        script=(templates / "script.js").read_text(),
        version=VERSION,
        day=datetime.now(UTC).strftime("%-d %B %Y"),
    )


def render_markdown(parts: Sequence[Part], refused: Sequence[Refusal]) -> str:
    """The report in Markdown, with links to the image files."""
    lines = [f"# {escape_markup(_title(parts))}", ""]
    lines += [f"> **{escape_markup(sentence)}**\n" for sentence in _warnings(parts)]
    lines += [f"> Left out: {escape_markup(refusal.reason)}\n" for refusal in refused]
    for part in parts:
        lines += [
            f"## {escape_markup(part.group.name)}",
            "",
            *(f"> {escape_markup(problem)}\n" for problem in part.problems),
        ]
        if part.explorer:
            lines += [f"[Latent explorer]({part.explorer}): these models side by side in the browser.", ""]
        for table in part.tables:
            lines += [f"### {escape_markup(table.title)}", "", as_markdown(table)]
        lines += ["### Fairness", ""]
        lines += [
            f"- **{found.severity}**, {found.topic}: {escape_markup(found.sentence + _values(found))}"
            for found in part.findings
        ]
        for title, _, pictures in part.chapters:
            lines += ["", f"### {title}", ""]
            for picture in pictures:
                lines += [f"**{picture.title}.** {picture.how_to_read}", ""]
                lines += [f"![{escape_markup(panel.alt)}](figures/{panel.name}.png)" for panel in picture.panels]
                lines += [f"![{picture.title}](figures/{name}.png)" for name in picture.files]
    return "\n".join(lines) + "\n"


def _values(found: object) -> str:
    values = getattr(found, "values", ())
    return f" ({'; '.join(f'{label}: {value}' for label, value in values)})" if values else ""


def _title(parts: Sequence[Part]) -> str:
    count = sum(len(part.group.seed_groups) for part in parts)
    return f"{count} {'model' if count == 1 else 'models'} on {' and '.join(part.group.name for part in parts)}"


def _warnings(parts: Sequence[Part]) -> list[str]:
    if len(parts) < 2:
        return []
    return [
        "These runs are on different data (or on data that were binarised differently). Compare numbers only within a"
        " group, never across groups."
    ]


def _used(parts: Sequence[Part]) -> list[str]:
    columns = [column.metric.name for part in parts for table in part.tables for column in table.columns]
    return [name for name in CATALOGUE if name in columns]
