"""From run folders to a page, tables and pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from vaezoo.comparison import Group, Refusal, Variant, check, gather, group, spoiled, weights
from vaezoo.comparison.records import finite
from vaezoo.comparison.report import exports, pictures, sections, tables
from vaezoo.comparison.report.drawing import styled
from vaezoo.comparison.report.model_outputs import Images, Shown, images_of, show
from vaezoo.comparison.report.page import render, render_markdown
from vaezoo.comparison.report.part import Part
from vaezoo.comparison.report.pictures import Models, Picture
from vaezoo.config import hydra_config
from vaezoo.config.errors import RunError, VaezooError
from vaezoo.metrics.catalogue import mostly_unused
from vaezoo.models.loading import Run
from vaezoo.runs.files import replacing
from vaezoo.runs.trust import OWN

ORDER = (
    *("Reconstructions", "Interpolations", "Rate and distortion", "Latent maps", "Samples", "Latent dimensions"),
    *("Training", "Cost"),
)


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
        reason = hydra_config.explain(error) or " ".join(str(error).split()) or type(error).__name__
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
