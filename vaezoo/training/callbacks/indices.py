"""Figures of discrete codes during training: maps of their indices, and what codes and channels stand for."""

import math
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
    Nothing is drawn for continuous codes, and for those without a grid of positions.
    """

    name = "indices"

    def __init__(self, *, count: int = 10, **shared: Any) -> None:
        super().__init__(**shared)
        within(count, 1, MOST_TILES, "callbacks.indices.count")
        self.count = count

    def figure(self, model: Any, data: Any) -> Figure | None:
        if model.index_shape is None or math.prod(model.index_shape[1:]) == 1:
            return None
        x = examples(model, data, self.count)[0]
        indices = model.indices(x)
        partial, levels, sizes = model.partial_codes(indices), indices.unbind(1), model.codebook_sizes
        rows = {"original": x.cpu()}
        for depth, codes in enumerate([] if partial is None else partial[:-1], 1):
            rows[f"levels 1 to {depth}" if depth > 1 else "level 1"] = decoded(model, codes)
        rows["reconstruction"] = finite(model.reconstruct(x), "reconstructions")
        names = ["indices"] if len(levels) == 1 else [f"indices, level {level}" for level in range(1, len(levels) + 1)]
        maps = dict(zip(names, (level.cpu() for level in levels), strict=True))
        used = ", ".join(f"{len(level.unique())} of {size:,}" for level, size in zip(levels, sizes, strict=True))
        note = f"one colour for each code; {used} codes occur here"
        return figures.index_maps(rows, maps, self.subject(model, data), note)


def decoded(model: Any, codes: Tensor) -> Tensor:
    """Decoded images on the CPU of codes that the model has: (B, D) -> (B, C, H, W).

    FloatingPointError if they are not finite.
    """
    return finite(torch.cat([model.decode(part) for part in codes.split(CHUNK)]), "decoded images")


def codebook_images(model: Any, x: Tensor, image: Tensor, count: int) -> tuple[Tensor, Tensor, list[float], int]:
    """Decoded images of the ``count`` codes that images (N, C, H, W) use most.

    Returns images with each code in every position, ``image`` (C, H, W) with each code in its central position, both
    (K, C, H, W), the share of each code, and the number of codes in use. Of several levels, the first varies; if the
    others refine it, it is alone in every position.
    """
    counts = torch.bincount(
        torch.cat([model.indices(part)[:, 0].flatten() for part in x.split(CHUNK)]), minlength=model.codebook_sizes[0]
    )
    chosen = counts.argsort(descending=True, stable=True)[: min(count, int((counts > 0).sum()))]
    everywhere = model.indices(image[None]).repeat(len(chosen), 1, 1, 1)
    at_centre, (height, width) = everywhere.clone(), everywhere.shape[2:]
    everywhere[:, 0] = chosen[:, None, None]
    at_centre[:, 0, height // 2, width // 2] = chosen
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
