"""Builds a report from run folders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from vaezoo.comparison import Group, Refusal, SeedGroup, check, gather, group, unranked, weights
from vaezoo.comparison.records import finite
from vaezoo.comparison.report import exports, pictures, sections, summary, tables
from vaezoo.comparison.report.drawing import styled
from vaezoo.comparison.report.model_outputs import Images, ModelOutputs, compute_outputs, images_of
from vaezoo.comparison.report.page import render, render_markdown
from vaezoo.comparison.report.part import Part
from vaezoo.comparison.report.pictures import Models, Picture
from vaezoo.config import hydra_config
from vaezoo.config.errors import RunError, VaezooError
from vaezoo.config.shapes import is_table
from vaezoo.metrics.catalogue import mostly_unused
from vaezoo.models.loading import Run
from vaezoo.runs.files import replacing
from vaezoo.runs.trust import OWN

ORDER = (
    *("Reconstructions", "Interpolations", "Rate and distortion", "Latent maps", "Samples", "Latent dimensions"),
    *("Training", "Cost"),
)

CANNOT_READ = (VaezooError, HydraException, OSError, ValueError, RuntimeError)
"""What reading the images of a run may raise."""

Explorer = Callable[[Mapping[str, Path], Path], Sequence[str]]
"""Writes a page on which runs by name are explored in the browser; returns sentences on those left out."""


def build(
    paths: Sequence[str | Path],
    out: Path,
    packages: Sequence[str] = OWN,
    *,
    pdf: bool = True,
    explore: Explorer | None = None,
) -> list[Refusal]:
    """Write report.html, report.md, table.csv, table.tex and figures/ to ``out``; returns the runs left out.

    Figures are PNG, and also PDF if ``pdf``, half of whose time is spent on embedding fonts. ``explore`` writes a page
    for each group of runs on the same data, to which the report leads.
    ``packages`` may be imported to create models (see ``vaezoo.load``). Raises RunError if there is nothing to compare
    or ``out`` is not writable.
    """
    records, refused = gather(paths, packages)
    if not records:
        reasons = "; ".join(refusal.reason for refusal in refused)
        raise RunError(f"there is no finished run to compare: {reasons or 'no folder contains one'}")
    groups = group(records)
    refused += [refusal for found in groups for refusal in found.refused]
    figures = out / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
        with styled(pdf=pdf):
            parts = [_part(found, at, len(groups), figures, packages) for at, found in enumerate(groups)]
        if explore is not None:
            for part in parts:
                _explore(part, out / f"explorer{f'-{part.anchor}' if len(parts) > 1 else ''}.html", explore)
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


def _explore(part: Part, page: Path, explore: Explorer) -> None:
    """Write the page of a group's models, with the lowest seed of each; a problem is added to ``part``."""
    runs = {seed_group.label: seed_group.first.path for seed_group in part.group.seed_groups}
    try:
        part.problems += [f"The latent explorer leaves out {sentence}." for sentence in explore(runs, page)]
        part.explorer = page.name
    except CANNOT_READ as error:
        part.problems.append(f"There is no latent explorer: {_reason(error)}.")


def _part(found: Group, at: int, count: int, figures: Path, packages: Sequence[str]) -> Part:
    findings = check(found)
    part = Part(found, f"g{at + 1}", tables.tables(found, unranked(findings)), findings, packages=packages)
    part.problems += [
        f"{seed_group.label} was trained elsewhere, on other images, and its likelihood was fitted afterwards; see"
        " Fairness."
        for seed_group in found.seed_groups
        if seed_group.first.is_adopted
    ]
    part.problems += [problem for seed_group in found.seed_groups if (problem := _unused(seed_group, found))]
    makers = _makers(part, f"{part.anchor}-" if count > 1 else "", figures)
    for title in ORDER:
        shown = [picture for picture in makers.get(title, list)() if picture.panels or picture.strips]
        for picture in shown:
            picture.tell_colours(found.channels)
            if part.is_large and picture.strips:
                picture.fold_by(part.families)
        if shown:
            part.chapters.append((title, f"{part.anchor}-{title.lower().replace(' ', '-')}", shown))
    panels = [panel for *_, shown in part.chapters for picture in shown for panel in picture.panels]
    part.summary, part.overview = summary.sentences(found, findings), summary.overview(panels)
    return part


def _unused(seed_group: SeedGroup, found: Group) -> str:
    """A note if fewer than half of the latent dimensions are active, else an empty string."""
    active, count = seed_group.values("active_units"), finite(seed_group.first.config["model"].get("latent_dim"))
    if not active or count is None:
        return ""
    note = mostly_unused(sum(active.values()) / len(active), int(count), weights(seed_group, found.seed_groups))
    return note and f"{seed_group.label}: {note}."


def _makers(part: Part, prefix: str, figures: Path) -> dict[str, Callable[[], list[Picture]]]:
    """Functions that draw the chapters, by title; without images or models only those that need neither."""
    found, untimed = part.group, unranked(part.findings).get("seconds", "")
    images, models = _models(part)
    of_numbers: dict[str, Callable[[], list[Picture]]] = {
        "Rate and distortion": lambda: [sections.rate_distortion(found, prefix, figures)],
        "Training": lambda: [sections.training(found, prefix, figures, untimed)],
        "Cost": lambda: [sections.cost(found, prefix, figures, untimed)],
    }
    if images is None or not models:
        return of_numbers
    if is_table(images.test.shape[1:]):
        return of_numbers | {
            "Latent maps": lambda: [sections.latent_maps(images, models, prefix, figures)],
            "Latent dimensions": lambda: [sections.kl_by_dimension(models, prefix, figures)],
        }
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
    """The images of a group, and the outputs of the lowest seed of each seed group; problems are added to ``part``."""
    try:
        images = images_of(_data(part.group, part.packages))
    except CANNOT_READ as error:
        part.problems.append(
            f"Pictures that need images are missing, because the data cannot be read: {_reason(error)}"
        )
        return None, []
    models = []
    for at, seed_group in enumerate(part.group.seed_groups):
        outputs = _outputs_of(seed_group.first.path, images, part.packages)
        if isinstance(outputs, ModelOutputs):
            models.append((at, seed_group, outputs))
        else:
            part.problems.append(f"{seed_group.label} is missing from the pictures: {outputs}")
    return images, models


def _reason(error: Exception) -> str:
    return hydra_config.explain(error) or " ".join(str(error).split()) or type(error).__name__


def _outputs_of(path: Path, images: Images, packages: Sequence[str]) -> ModelOutputs | str:
    try:
        return compute_outputs(Run(path).model(packages=packages), images)
    except (FloatingPointError, ArithmeticError, ValueError, RuntimeError) as error:
        return " ".join(str(error).split())


def _data(found: Group, packages: Sequence[str]) -> Any:
    """The data module of the group's first run."""
    return Run(found.seed_groups[0].first.path).data(packages=packages)
