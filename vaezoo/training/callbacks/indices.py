"""Figures of discrete codes during training: maps of their indices, and what codes and channels stand for."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaezoo import figures
from vaezoo.config.validation import within
from vaezoo.training.callbacks.pictures import CHUNK, MOST_TILES, Picture, decode, examples, finite


class IndexMaps(Picture):
    """The first ``count`` validation images, their reconstructions and the indices of their codes, in colours.

    If levels of a code refine each other, there is a reconstruction from the first level, the first two, and so on.
    Of several grids, each has its own row. Nothing is drawn for continuous codes, and for those without a grid of
    positions.
    """

    name = "indices"

    def __init__(self, *, count: int = 10, **shared: Any) -> None:
        super().__init__(**shared)
        within(count, 1, MOST_TILES, "callbacks.indices.count")
        self.count = count

    def figure(self, model: Any, data: Any) -> Figure | None:
        layout = model.index_layout
        if layout is None or max(book.positions for book in layout.codebooks) == 1:
            return None
        x = examples(model, data, self.count)[0]
        indices = model.indices(x)
        partial, found = model.partial_codes(indices), layout.maps(indices.cpu())
        rows = {"original": x.cpu()}
        for depth, codes in enumerate([] if partial is None else partial[:-1], 1):
            rows[f"levels 1 to {depth}" if depth > 1 else "level 1"] = decoded(model, codes)
        rows["reconstruction"] = finite(model.reconstruct(x), "reconstructions")
        maps = {", ".join(filter(None, ("indices", in_words(name)))): indices for name, indices in found.items()}
        counted = zip(found.values(), layout.sizes, strict=True)
        used = ", ".join(f"{len(indices.unique())} of {size:,}" for indices, size in counted)
        note = f"one colour for each code; {used} codes occur here"
        return figures.index_maps(rows, maps, self.subject(model, data), note)


def in_words(codebook: str) -> str:
    """The name of a codebook in a figure: "level 1", "top", "top, level 1", or nothing for the only one."""
    grid, _, level = codebook.rpartition("_") if not codebook.isalpha() else (codebook, "", "")
    return ", ".join(filter(None, (grid, f"level {level}" if level else "")))


def decoded(model: Any, codes: Tensor) -> Tensor:
    """Decoded images on the CPU of codes that the model has: (B, D) -> (B, C, H, W).

    FloatingPointError if they are not finite.
    """
    return finite(torch.cat([model.decode(part) for part in codes.split(CHUNK)]), "decoded images")


def codebook_images(model: Any, x: Tensor, image: Tensor, count: int) -> tuple[Tensor, Tensor, list[float], int]:
    """Decoded images of the ``count`` codes that images (N, C, H, W) use most.

    Returns images with each code in every position, ``image`` (C, H, W) with each code in its central position, both
    (K, C, H, W), the share of each code, and the number of codes in use. Of several codebooks, the first varies; if the
    others refine it, it is alone in every position.
    """
    layout, first = model.index_layout, model.index_layout.codebooks[0].name
    counts = layout.counts(torch.cat([model.indices(part) for part in x.split(CHUNK)]))[first]
    chosen = counts.argsort(descending=True, stable=True)[: min(count, int((counts > 0).sum()))]
    everywhere = model.indices(image[None]).repeat_interleave(len(chosen), 0)
    at_centre, (height, width) = everywhere.clone(), layout.maps(everywhere)[first].shape[1:]
    layout.maps(everywhere)[first][:] = chosen[:, None, None]
    layout.maps(at_centre)[first][:, height // 2, width // 2] = chosen
    partial = model.partial_codes(everywhere)
    alone = model.codes_at(everywhere) if partial is None else partial[0]
    images = [decoded(model, codes) for codes in (alone, model.codes_at(at_centre))]
    return images[0], images[1], (counts[chosen] / counts.sum()).tolist(), int((counts > 0).sum())


def channel_strips(model: Any, start: Tensor, rows: int, columns: int) -> dict[str, Tensor]:
    """Decoded images of each value of a channel in turn, in all positions, (K, C, H, W) by the name of the channel.

    The other channels stay as in the code ``start`` (D,). At most ``rows`` channels and ``columns`` values.
    """
    strips = {}
    for channel, values in enumerate(model.channel_levels[:rows]):
        values = torch.tensor(values[:columns], dtype=start.dtype, device=start.device)
        moved = start.repeat(len(values), 1).unflatten(1, model.code_shape)
        moved[:, channel] = values[:, None, None]
        strips[f"channel {channel}"] = decode(model, moved.flatten(1))
    return strips
