"""``vaezoo compare``: from run folders to a page, tables and pictures."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from vaezoo import config, own
from vaezoo.comparison import Finding, Group, Refusal, Variant, check, gather, group, spoiled, weights
from vaezoo.comparison.entries import finite
from vaezoo.errors import ConfigError, RunError, VaezooError
from vaezoo.files import replacing
from vaezoo.metrics.catalogue import mostly_unused
from vaezoo.paths import folder
from vaezoo.report import exports, pictures, sections, tables
from vaezoo.report.drawing import styled
from vaezoo.report.material import Images, Shown, images_of, show
from vaezoo.report.page import render, render_markdown
from vaezoo.report.pictures import Models, Picture
from vaezoo.report.tables import Table
from vaezoo.runs import Run
from vaezoo.trust import OWN

USAGE = "vaezoo compare RUN... out=DIR [packages=[NAME]] [--config-dir=FOLDER]"
HELP = f"""usage: {USAGE}

Put runs side by side on one page, with tables, charts and pictures, from what their folders record.

  RUN...              run folders, or folders that contain them, such as a benchmark's
  out=DIR             where report.html, report.md, table.csv, table.tex and figures/ are written
  packages=[NAME]     your own packages whose models may be created
  --config-dir=FOLDER accepted for consistency with the other commands; runs keep their own configs, so it is not read
"""
ORDER = (
    *("Reconstructions", "Interpolations", "Rate and distortion", "Latent maps", "Samples", "Latent dimensions"),
    *("Training", "Cost"),
)


@dataclass
class Part:
    """All that a page says of one group. ``problems`` are sentences on what is missing, and on unused dimensions."""

    group: Group
    anchor: str
    tables: list[Table]
    findings: list[Finding]
    chapters: list[tuple[str, str, list[Picture]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    packages: Sequence[str] = OWN


def main(arguments: list[str]) -> int:
    """Compare the runs that the command line names; returns the exit code."""
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    try:
        paths, out, packages = parse(arguments)
        refused = build(paths, out, packages)
    except VaezooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for refusal in refused:
        print(f"left out: {refusal.reason}", file=sys.stderr)
    print(f"report  {out / 'report.html'}")
    return 0


def parse(arguments: Sequence[str]) -> tuple[list[str], Path, tuple[str, ...]]:
    """Run folders, the folder for the report and the packages of own models; ConfigError for anything else.

    A folder of configs is taken as by other commands, though a run's own config says all that is needed here.
    """
    added, arguments = own.take(arguments)
    settings = [argument for argument in arguments if argument.startswith("out=")]
    unknown = [a for a in arguments if "=" in a and a not in settings and not os.path.exists(a)]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a setting here; write {USAGE}")
    paths = [argument for argument in arguments if argument not in settings]
    if not paths or len(settings) != 1:
        raise ConfigError(f"compare needs run folders and one out=DIR, got {' '.join(arguments) or 'nothing'}: {USAGE}")
    return paths, folder(settings[0].removeprefix("out="), "out"), added.packages


def build(paths: Sequence[str | Path], out: Path, packages: Sequence[str] = OWN) -> list[Refusal]:
    """Write report.html, report.md, table.csv, table.tex and figures/ to ``out``; returns what was left out.

    ``packages`` are those whose models may be made (see ``vaezoo.load``).
    Raises RunError if there is nothing to compare or ``out`` cannot be written to.
    """
    entries, refused = gather(paths, packages)
    if not entries:
        reasons = "; ".join(refusal.reason for refusal in refused)
        raise RunError(f"there is no finished run to compare: {reasons or 'no folder contains one'}")
    groups = group(entries)
    refused += [refusal for found in groups for refusal in found.refused]
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        with styled():
            parts = [_part(found, at, len(groups), figures, packages) for at, found in enumerate(groups)]
        _write(out, parts, refused)
    except OSError as error:
        raise RunError(f"cannot write to out={out}: {error.strerror or error}; choose another") from error
    return refused


def _write(out: Path, parts: Sequence[Part], refused: Sequence[Refusal]) -> None:
    groups = [part.group for part in parts]
    texts = {
        "report.html": render(parts, refused),
        "report.md": render_markdown(parts, refused),
        "table.csv": exports.as_csv(groups),
        "table.tex": exports.as_latex([(part.group.name, part.tables[0]) for part in parts]),
    }
    for name, text in texts.items():
        with replacing(out / name) as new:
            new.write_text(text, encoding="utf-8")


def _part(found: Group, at: int, count: int, figures: Path, packages: Sequence[str]) -> Part:
    findings = check(found)
    part = Part(found, f"g{at + 1}", tables.tables(found, spoiled(findings)), findings, packages=packages)
    part.problems += [problem for variant in found.variants if (problem := _unused(variant, found))]
    makers = _makers(part, f"{part.anchor}-" if count > 1 else "", figures)
    for title in ORDER:
        shown = [picture for picture in makers.get(title, list)() if picture.panels or picture.strips]
        if shown:
            part.chapters.append((title, f"{part.anchor}-{title.lower().replace(' ', '-')}", shown))
    return part


def _unused(variant: Variant, found: Group) -> str:
    """What to say of a variant that uses fewer than half of its latent dimensions; nothing of others."""
    active, count = variant.values("active_units"), finite(variant.first.config["model"].get("latent_dim"))
    if not active or count is None:
        return ""
    note = mostly_unused(sum(active.values()) / len(active), int(count), weights(variant, found.variants))
    return note and f"{variant.label}: {note}."


def _makers(part: Part, prefix: str, figures: Path) -> dict[str, Callable[[], list[Picture]]]:
    """What draws each chapter; those that need images are missing where there are none."""
    found, untimed = part.group, spoiled(part.findings).get("seconds", "")
    images, models = _models(part)
    of_numbers: dict[str, Callable[[], list[Picture]]] = {
        "Rate and distortion": lambda: [sections.rate_distortion(found, prefix, figures)],
        "Training": lambda: [sections.training(found, prefix, figures, untimed)],
        "Cost": lambda: [sections.cost(found, prefix, figures, untimed)],
    }
    if images is None or not models:
        return of_numbers
    return of_numbers | {
        "Reconstructions": lambda: pictures.reconstructions(images, models, prefix, figures),
        "Interpolations": lambda: pictures.interpolations(images, models, prefix, figures),
        "Latent maps": lambda: [sections.latent_maps(images, models, prefix, figures)],
        "Samples": lambda: pictures.samples(models, prefix, figures),
        "Latent dimensions": lambda: [
            pictures.traversals(models, prefix, figures),
            sections.kl_by_dimension(models, prefix, figures),
        ],
    }


def _models(part: Part) -> tuple[Images | None, Models]:
    """The images of a group and what each variant's first seed makes of them; problems are noted in the part."""
    try:
        images = images_of(_data(part.group, part.packages))
    except (VaezooError, HydraException, OSError, ValueError, RuntimeError) as error:
        reason = config.explain(error) or " ".join(str(error).split()) or type(error).__name__
        part.problems.append(f"Pictures that need images are missing, because the data cannot be read: {reason}")
        return None, []
    models = []
    for at, variant in enumerate(part.group.variants):
        shown = _show(variant.first.path, images, part.packages)
        if isinstance(shown, Shown):
            models.append((at, variant, shown))
        else:
            part.problems.append(f"{variant.label} is missing from the pictures: {shown}")
    return images, models


def _show(path: Path, images: Images, packages: Sequence[str]) -> Shown | str:
    try:
        return show(Run(path).model(packages=packages), images)
    except (FloatingPointError, ArithmeticError, ValueError, RuntimeError) as error:
        return " ".join(str(error).split())


def _data(found: Group, packages: Sequence[str]) -> Any:
    """The data module of the group's first run, with the images where they lie on this machine."""
    return Run(found.variants[0].first.path).data(packages=packages)
