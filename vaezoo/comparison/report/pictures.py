"""Chapters of images: reconstructions, interpolations, samples and traversals of every model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from vaezoo.comparison import SeedGroup
from vaezoo.comparison.report import charts, strips
from vaezoo.comparison.report.drawing import Panel
from vaezoo.comparison.report.model_outputs import COLUMNS, STEPS, Images, ModelOutputs
from vaezoo.figures.mosaics import colours_shown

Models = Sequence[tuple[int, SeedGroup, ModelOutputs]]
"""Index in the group, seed group, and outputs of the model with its lowest seed."""


@dataclass
class Strip:
    """A row of ``count`` images as one data URI, with labels; ``side`` is the image width in pixels."""

    label: str
    note: str
    uri: str
    count: int
    side: int
    index: int | None = None
    owner: int | None = None
    """Index of the model that the row is of, also without a chip."""
    below: list[str] = field(default_factory=list)
    minor: bool = False
    block: str = ""
    """Heading under which rows are grouped."""


@dataclass
class Picture:
    """A figure of the report with its explanation."""

    title: str
    how_to_read: str
    panels: list[Panel] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    """Images shown below panels: data URI by panel name."""
    above: list[str] = field(default_factory=list)
    folded: bool = False
    by_family: bool = False
    """Whether each block is folded by itself."""
    files: list[str] = field(default_factory=list)
    """File names, without suffix, of the figures with the rows of images."""

    def tell_colours(self, channels: int) -> None:
        """Say how images of so many channels are shown, if the picture has any."""
        if (self.strips or self.images) and (colours := colours_shown(channels)):
            self.how_to_read += f" Images are shown with {colours}; errors and numbers are of all channels."

    def fold_by(self, families: Mapping[str, Sequence[int]]) -> None:
        """Fold rows of images by the family of their model, each below the rows of no model; fold others as a whole."""
        if any(strip.block for strip in self.strips):
            self.folded = True
            return
        originals = [strip for strip in self.strips if strip.owner is None]
        self.strips = [
            replace(strip, block=name)
            for name, indices in families.items()
            if (own := [strip for strip in self.strips if strip.owner in indices])
            for strip in (*originals, *own)
        ]
        self.by_family = True

    @property
    def blocks(self) -> list[tuple[str, list[Strip]]]:
        """Rows of images grouped by block, in order."""
        return [(name, list(rows)) for name, rows in groupby(self.strips, key=lambda strip: strip.block)]


def _strip(label: str, images: Tensor, *, note: str = "", index: int | None = None, **more: object) -> Strip:
    more.setdefault("owner", index)
    return Strip(label, note, strips.strip(images), len(images), images.shape[-1], index, **more)  # type: ignore[arg-type]


def _file(picture: Picture, rows: Sequence[tuple[str, Tensor]], title: str, path: Path, note: str = "") -> None:
    """Write the rows of a picture as PNG and PDF; the texts below its last strip label the columns."""
    columns = picture.strips[-1].below
    strips.save(strips.page(rows, title, note, columns), path)
    picture.files.append(path.name)


# images --------------------------------------------------------------------------------------------------------------


def reconstructions(images: Images, models: Models, prefix: str, out: Path) -> list[Picture]:
    """Reconstructions of random test images, and of those with the lowest PSNR averaged over models."""
    mean_psnr = torch.stack([outputs.psnr for _, _, outputs in models]).mean(0)
    worst = mean_psnr.argsort(stable=True)[:COLUMNS].tolist()
    read = (
        "Compare down a column: the original on top, then each model's reconstruction with its PSNR in dB (higher is"
        " closer), then its absolute error on one scale for all models, from black (none) to light yellow ({:.2f})."
    )
    chosen = {"random": ("Random test images", images.random), "worst": ("The hardest test images", worst)}
    pictures = []
    for name, (title, places) in chosen.items():
        x = images.test[places]
        most = max(float((x - outputs.recon[places]).abs().mean(1).max()) for _, _, outputs in models)
        picture = Picture(title, read.format(most), strips=[_strip("original", x)])
        if name == "worst":
            picture.how_to_read += (
                f" Of {len(images.test)} test images, these have the lowest PSNR averaged over the models."
            )
        rows = [("original", x)]
        for index, seed_group, outputs in models:
            recon, error = outputs.recon[places], strips.errors(x, outputs.recon[places], most)
            below = [f"{value:.1f}" for value in outputs.psnr[places].tolist()]
            picture.strips += [
                _strip(seed_group.label, recon, index=index, below=below),
                _strip("", error, note="error", minor=True, owner=index),
            ]
            rows += [(seed_group.label, recon), ("error", error)]
        _file(
            picture, rows, title, out / f"{prefix}reconstructions-{name}", f"errors: black 0 to light yellow {most:.2f}"
        )
        pictures.append(picture)
    return pictures


def interpolations(images: Images, models: Models, prefix: str, out: Path) -> list[Picture]:
    """Linear and spherical interpolations of the same pairs by every model, and their step sizes."""
    pictures = []
    for method, folded in (("linear", False), ("spherical", True)):
        picture = Picture(
            f"Between two test images, {method} paths",
            "The first and last image of each row are real; those between are decoded from codes on the path. In a good"
            " latent space one changes into the other through plausible images; in a poor one they blend or jump.",
            folded=folded,
        )
        if any(outputs.label for _, _, outputs in models):
            picture.how_to_read += " A model that is given the label keeps that of the first image."
        rows = []
        for at, (start, end) in enumerate(zip(images.start, images.end, strict=True)):
            for index, seed_group, outputs in models:
                row = torch.cat([start[None], outputs.strips[method][at], end[None]])
                picture.strips.append(_strip(seed_group.label, row, index=index, block=f"Pair {at + 1}"))
                rows.append((f"{seed_group.label}, pair {at + 1}", row))
            picture.strips[-1].below = ["real", *(f"{step / (STEPS - 1):.2g}" for step in range(STEPS)), "real"]
        if rows:
            _file(picture, rows, picture.title, out / f"{prefix}interpolations-{method}")
            pictures.append(picture)
    read = (
        "How much the decoded image changes in each small step along the path, relative to the mean step: a flat line"
        " at 1 is an even change, a peak is a jump."
    )
    panels = [
        charts.paces(
            [(index, seed_group.label, outputs.paces["linear"][at].numpy()) for index, seed_group, outputs in models],
            f"Pace of pair {at + 1}, linear",
            f"{prefix}pace-{at + 1}",
            out,
        )
        for at in range(len(images.pairs))
    ]
    return [*pictures, Picture("Smoothness of the paths", read, panels)] if panels else pictures


def samples(models: Models, prefix: str, out: Path) -> list[Picture]:
    """Samples from each model's prior and from a mixture, each with the nearest training image."""
    texts = {
        "prior": (
            "Samples from each model's prior",
            "draws of the model's prior, the same for all models with the same prior",
        ),
        "mixture": (
            "Samples from a Gaussian mixture fitted to each model's codes",
            "draws from ten Gaussians fitted to the model's training codes, or to their principal axes, whatever its"
            " prior",
        ),
    }
    without = {
        "prior": "a prior to draw from",
        "mixture": "a mixture, because their codes have too many dimensions, or are decoded with a label",
    }
    pictures = []
    for source, (title, drawn) in texts.items():
        read = (
            f"Each row shows {drawn}; the row below it shows the training images nearest in pixels, to reveal memorised"
            " training images."
        )
        picture, rows, left_out = Picture(title, read), [], list[str]()
        for index, seed_group, outputs in models:
            if source not in outputs.draws:
                left_out.append(seed_group.label)
                continue
            draws = outputs.draws[source]
            note = "" if draws.source in texts else draws.source
            picture.strips += [
                _strip(seed_group.label, draws.images, index=index, note=note),
                _strip("", draws.nearest, note="nearest training image", minor=True, owner=index),
            ]
            label = f"{seed_group.label}, {note.partition(':')[0]}" if note else seed_group.label
            rows += [(label, draws.images), ("nearest training image", draws.nearest)]
        if left_out:
            picture.how_to_read += f" Without {without[source]}: {', '.join(left_out)}."
        if rows:
            _file(picture, rows, title, out / f"{prefix}samples-{source}")
            pictures.append(picture)
    return pictures


def traversals(models: Models, prefix: str, out: Path) -> Picture:
    """Traversals around each model's mean code, one latent dimension per row, or a codebook's most used codes."""
    picture = Picture(
        "Traversals",
        "Each row moves one latent dimension from −2.5 to +2.5 standard deviations of the codes and keeps the others"
        " at the mean code. Dimensions with the most KL come first (with the most variance where no KL of each"
        " dimension exists); moving an unused dimension changes nothing.",
    )
    if any(outputs.is_discrete for _, _, outputs in models):
        picture.how_to_read += (
            " Discrete codes have no dimensions to move; instead, each column shows one of the codes in most use, with"
            " its share of all positions."
        )
    left_out = [seed_group.label for _, seed_group, outputs in models if not outputs.traversal.rows]
    if left_out:
        said = "Left out, because a coordinate of a code on a sphere cannot move alone"
        picture.how_to_read += f" {said}: {', '.join(left_out)}."
    for index, seed_group, outputs in models:
        rows = list(zip(outputs.traversal.rows, outputs.traversal.strips, strict=True))
        if not rows:
            continue
        for note, images in rows:
            block = seed_group.label + (f", given the label {outputs.label}" if outputs.label else "")
            picture.strips.append(_strip("", images, note=note, block=block, owner=index))
        picture.strips[-1].below = outputs.traversal.columns
        title = f"{'Codes' if outputs.is_discrete else 'Traversals'} of {seed_group.label}"
        _file(picture, rows, title, out / f"{prefix}traversals-{index}")
    return picture
