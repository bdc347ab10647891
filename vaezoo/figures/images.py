"""Figures of images: reconstructions, interpolations, samples, traversals. Pixel values are never rescaled."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from vaezoo.figures.canvas import FAINT, NOTE, draw_text, mark, mosaic_page, titled
from vaezoo.figures.mosaics import (
    compose,
    in_colour,
    interpolation_mosaic,
    reconstruction_mosaic,
    sample_mosaic,
    traversal_mosaic,
)

GOLDEN = 0.6180339887
"""Part of the circle of hues between the colours of two neighbouring indices: many steps never come close together."""


def reconstructions(
    x: Tensor, recon: Tensor, psnr: Tensor, subject: str = "", *, of: str = "validation images"
) -> Figure:
    """Originals and reconstructions, both (B, C, H, W), their absolute errors, and the PSNR (B,) in dB.

    ``of`` says in the title which images they are.
    """
    figure, _ = mosaic_page(
        reconstruction_mosaic(x, recon),
        titled(f"Reconstructions of {of}", subject),
        "PSNR in dB below each column; error on the images' own scale, black 0 to white 1",
        row_labels=["original", "reconstruction", "absolute error"],
        captions=[f"{ratio:.1f}" for ratio in psnr.tolist()],
    )
    return figure


def interpolations(
    start: Tensor,
    end: Tensor,
    strips: Mapping[str, Tensor],
    subject: str = "",
    note: str = "",
    *,
    of: str = "validation images",
) -> Figure:
    """Interpolations between images (B, C, H, W); ``strips`` by method: (B, steps, C, H, W), from t = 0 to t = 1.

    ``of`` says in the title which images they are.
    """
    steps = next(iter(strips.values())).shape[1]
    times = [f"{step / max(1, steps - 1):.3g}" for step in range(steps)]
    figure, _ = mosaic_page(
        interpolation_mosaic(start, end, strips),
        titled(f"Interpolations between codes of {of}", subject),
        f"framed: the real images; between them the decoded codes, t above the columns{note}",
        row_labels=list(strips) * len(start),
        column_labels=["real", *times, "real"],
    )
    return figure


def samples(
    images: Tensor, columns: int, title: str, subject: str = "", note: str = "", row_labels: Sequence[str] = ()
) -> Figure:
    """Images (B, C, H, W), ``columns`` per row."""
    figure, _ = mosaic_page(sample_mosaic(images, columns), titled(title, subject), note, row_labels=row_labels)
    return figure


def traversals(
    image: Tensor,
    recon: Tensor,
    strips: Tensor,
    row_labels: Sequence[str],
    own: Sequence[float],
    extent: float,
    subject: str = "",
    note: str = "",
    *,
    centre: str = "mean",
    moved: str = "dimensions",
) -> Figure:
    """One row (S, C, H, W) of ``strips`` per latent dimension, varied from -extent to +extent standard deviations.

    The first row shows the traversed image and its reconstruction, (C, H, W). ``own`` is the image's code in each row's
    dimension, in standard deviations; a mark below the row shows its position if it is within the range. ``centre`` is
    what stands in the middle, and ``moved`` what the rows are, in the title.
    """
    mosaic = traversal_mosaic(image, recon, strips)
    title = titled(f"Traversals of latent {moved}", subject)
    labels = ["real, reconstruction", *row_labels]
    figure, (left, top) = mosaic_page(mosaic, title, note, row_labels=labels)
    centres = [left + x + mosaic.width / 2 for x in mosaic.lefts]
    offsets = torch.linspace(-extent, extent, strips.shape[1]).tolist()
    above = top + mosaic.tops[1] - 3
    for x, offset in zip(centres, offsets, strict=False):
        label = centre if abs(offset) < 1e-6 else f"{offset:+.1f}σ"
        draw_text(figure, x, above, label, NOTE - 1, align="center", vertical="bottom", colour=FAINT)
    own_places = [
        (float(np.interp(value, offsets, centres[: len(offsets)])), top + y + mosaic.height + 5)
        for value, y in zip(own, mosaic.tops[1:], strict=True)
        if abs(value) <= extent
    ]
    mark(figure, own_places)
    return figure


def rows(rows: Mapping[str, Tensor], title: str, subject: str = "", note: str = "") -> Figure:
    """Rows of images by label, (K, C, H, W) each, with any number of images."""
    mosaic = compose([list(images) for images in rows.values()])
    figure, _ = mosaic_page(mosaic, titled(title, subject), note, row_labels=list(rows))
    return figure


def codebook(rows: Mapping[str, Tensor], shares: Sequence[float], subject: str = "", note: str = "") -> Figure:
    """Rows of images by label, (K, C, H, W) each, one image for each code; ``shares`` (K,) label the columns."""
    mosaic = compose([list(images) for images in rows.values()])
    columns = [f"{share:.1%}" for share in shares]
    title = titled("Codes of the codebook", subject)
    figure, _ = mosaic_page(mosaic, title, note, row_labels=list(rows), column_labels=columns)
    return figure


def index_maps(images: Mapping[str, Tensor], maps: Mapping[str, Tensor], subject: str = "", note: str = "") -> Figure:
    """Rows of images (B, C, H, W) by label, and below them rows of indices (B, h, w), with a colour for each."""
    size = next(iter(images.values())).shape[-2:]
    found = {label: in_colour(row) for label, row in images.items()}
    found |= {label: functional.interpolate(index_colours(row), size, mode="nearest") for label, row in maps.items()}
    return rows(found, "Indices of codes of validation images", subject, note)


def index_colours(indices: Tensor) -> Tensor:
    """A colour for each index, very different for neighbouring ones: whole numbers (B, h, w) -> (B, 3, h, w)."""
    values = indices.numpy()
    hue = values * GOLDEN % 1
    brightness = 1 - 0.2 * (values // 5 % 4)  # so that equal hues differ
    colours = hsv_to_rgb(np.stack([hue, np.full(hue.shape, 0.65), brightness], 1).transpose(0, 2, 3, 1))
    return torch.from_numpy(colours).permute(0, 3, 1, 2).float()
