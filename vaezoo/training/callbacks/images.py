"""Figures of images during training: reconstructions, interpolations, samples and traversals."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vaezoo import figures, metrics
from vaezoo.config.validation import above, at_least, within
from vaezoo.metrics.paths import choose_pairs
from vaezoo.nn.interpolation import METHODS
from vaezoo.training.callbacks.indices import channel_strips, codebook_images, in_words
from vaezoo.training.callbacks.pictures import (
    MOST_TILES,
    Picture,
    codes_of,
    decode,
    encode,
    examples,
    finite,
    label_name,
)

SEED = 0
"""Seed of the draws for figures: the same codes in every epoch and run."""
FEWEST = 8
"""Columns of samples given labels, at least."""
CODES = 16
"""Codes of a codebook that are shown."""


class Reconstructions(Picture):
    """The first ``count`` validation images, their reconstructions and the absolute errors."""

    name = "reconstructions"

    def __init__(self, *, count: int = 10, **shared: Any) -> None:
        super().__init__(**shared)
        within(count, 1, MOST_TILES, "callbacks.reconstructions.count")
        self.count = count

    def figure(self, model: Any, data: Any) -> Figure | None:
        x, labels = examples(model, data, self.count)
        recon = finite(model.given(labels).reconstruct(x), "reconstructions")
        return figures.reconstructions(
            x.cpu(), recon, metrics.psnr(metrics.mse(x.cpu(), recon)), self.subject(model, data), of=self.of
        )


class Interpolations(Picture):
    """Decoded interpolations between ``pairs`` of validation images in ``steps`` images, by each method.

    A conditional model keeps the label of the first image.
    """

    name = "interpolations"

    def __init__(self, *, pairs: int = 4, steps: int = 9, **shared: Any) -> None:
        super().__init__(**shared)
        within(pairs, 1, MOST_TILES, "callbacks.interpolations.pairs")
        within(steps, 2, MOST_TILES, "callbacks.interpolations.steps")
        self.pairs, self.steps = pairs, steps

    def figure(self, model: Any, data: Any) -> Figure | None:
        x, labels = examples(model, data, 4 * self.pairs)
        chosen = choose_pairs(labels, self.pairs)
        if not chosen:
            return None
        first, last = ([pair[side] for pair in chosen] for side in (0, 1))
        start, end, seen = x[first], x[last], model.given(labels[first], labels[last])
        strips = {method: seen.interpolate(start, end, steps=self.steps, method=method) for method in METHODS}
        strips = {method: finite(strip, "interpolations") for method, strip in strips.items()}
        note = "; the label stays that of the first image" if model.is_conditional else ""
        return figures.interpolations(start, end, strips, self.subject(model, data), note, of=self.of)


class Samples(Picture):
    """``count`` images decoded from draws of the prior, the same draws each time.

    For a model without a prior, codes are drawn from a Gaussian fitted to those of ``fit_images`` validation images,
    and the figure's title and note state that. A conditional model has a row for each label, as far as ``count``
    reaches, with the same noise in all rows.
    """

    name = "samples"

    def __init__(
        self, *, count: int = 64, columns: int = 16, fit_images: int = 1000, seed: int = SEED, **shared: Any
    ) -> None:
        super().__init__(**shared)
        for value, key in ((count, "count"), (columns, "columns")):
            within(value, 1, MOST_TILES, f"callbacks.samples.{key}")
        at_least(fit_images, 1, "callbacks.samples.fit_images")
        at_least(seed, 0, "callbacks.samples.seed")
        self.count, self.columns, self.fit_images, self.seed = count, columns, fit_images, seed

    def figure(self, model: Any, data: Any) -> Figure | None:
        if model.is_conditional and model.prior() is not None:
            return self._of_labels(model, data)
        images = model.sample(self.count, generator=torch.Generator().manual_seed(self.seed))
        if images is not None:
            return figures.samples(
                finite(images, "samples"), self.columns, "Samples from the prior", self.subject(model, data)
            )
        x, labels = examples(model, data, self.fit_images)
        codes = gaussian_like(encode(model, x, labels), self.count, torch.Generator().manual_seed(self.seed))
        title, subject = "Samples from a fitted Gaussian, not a prior", self.subject(model, data)
        note = f"this model has no prior: codes drawn from a Gaussian fitted to those of {len(x)} {self.of}"
        if model.index_shape is not None:
            note += " and moved to the nearest ones of the codebook"
        labels = labels.repeat(-(-len(codes) // len(labels)), *[1] * (labels.dim() - 1))
        return figures.samples(decode(model, codes, labels[: len(codes)]), self.columns, title, subject, note)

    def _of_labels(self, model: Any, data: Any) -> Figure:
        """A row of samples for each label; those of a column have the same noise."""
        rows = min(model.classes, self.count)
        columns = min(self.columns, max(FEWEST, self.count // rows))
        found = [model.given(row).sample(columns, torch.Generator().manual_seed(self.seed)) for row in range(rows)]
        names, note = [label_name(row, data) for row in range(rows)], "one row for each label"
        if rows < model.classes:
            note = f"one row for each of the first {rows} of {model.classes} labels"
        images = finite(torch.cat(found), "samples")
        note += ", with the same noise in all rows"
        title = "Samples from the prior, given the label"
        return figures.samples(images, columns, title, self.subject(model, data), note, names)


class Levels(Picture):
    """What each level of a hierarchy decides: samples of the prior with the noise of a single level drawn anew.

    One block of rows for each of ``count`` samples, with one row per level, top first, and ``columns`` draws of its
    noise after the sample itself. Nothing is drawn for other models.
    """

    name = "levels"

    def __init__(self, *, count: int = 3, columns: int = 12, **shared: Any) -> None:
        super().__init__(**shared)
        for value, key in ((count, "count"), (columns, "columns")):
            within(value, 1, MOST_TILES, f"callbacks.levels.{key}")
        self.count, self.columns = count, columns

    def figure(self, model: Any, data: Any) -> Figure | None:
        prior = model.prior()
        sizes = getattr(prior, "sizes", ())
        if len(sizes) < 2 or model.one_hots:
            return None
        generator, found = torch.Generator().manual_seed(SEED), {}
        for sample in range(self.count):
            own = torch.randn(1, sum(sizes), generator=generator)
            for level, (start, size) in enumerate(zip(accumulate(sizes, initial=0), sizes, strict=False), 1):
                noise = own.repeat(1 + self.columns, 1)
                noise[1:, start : start + size] = torch.randn(self.columns, size, generator=generator)
                found[f"sample {sample + 1}, level {level}"] = decode(model, prior.codes(noise))
        note = "first column: samples of the prior; then the noise of one level drawn anew, that of the others kept"
        return figures.rows(
            found, f"Levels of the hierarchy, 1 of {len(sizes)} is the top", self.subject(model, data), note
        )


def gaussian_like(codes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws from the Gaussian with the mean and (possibly singular) covariance of ``codes`` (N, D): (count, D).

    Sums of the centred codes with normal weights, so that no covariance is needed.
    """
    noise = torch.randn(count, len(codes), generator=generator, dtype=codes.dtype)
    return codes.mean(0) + noise @ (codes - codes.mean(0)) / math.sqrt(len(codes))


class Moved(NamedTuple):
    """Traversals of the image at the position ``image``, with its reconstruction (C, H, W).

    ``strips`` (R, S, C, H, W) have a row for each part of the code that moves; ``own`` is the image's own code there,
    in standard deviations.
    """

    image: int
    recon: Tensor
    strips: Tensor
    names: list[str]
    own: list[float]


class Traversals(Picture):
    """Latent traversals: each row varies one latent dimension, the others stay at one image's code.

    Shows up to ``rows`` dimensions, sorted by KL, or by variance for a model without such a KL. A row covers the
    aggregate posterior's mean ± ``extent`` standard deviations in ``steps`` images. Of spatial codes, a row moves all
    positions of a channel together, from the image's code. All statistics are over ``fit_images`` validation images. Of
    groups of categories, each category is shown in turn. Codes of a codebook have no dimensions to move; of them, the
    most used are shown. If channels are quantised one by one, each value of a channel is shown in turn. There is no
    figure for codes on a sphere, whose coordinates cannot move one at a time.
    """

    name = "traversals"

    def __init__(
        self,
        *,
        rows: int = 12,
        steps: int = 11,
        extent: float = 2.5,
        image: int = 0,
        fit_images: int = 1000,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        for value, least, key in ((rows, 1, "rows"), (steps, 2, "steps")):
            within(value, least, MOST_TILES, f"callbacks.traversals.{key}")
        for value, least, key in ((image, 0, "image"), (fit_images, 2, "fit_images")):
            at_least(value, least, f"callbacks.traversals.{key}")
        above(extent, 0, "callbacks.traversals.extent")
        self.rows, self.steps, self.extent, self.image, self.fit_images = rows, steps, extent, image, fit_images

    def figure(self, model: Any, data: Any) -> Figure | None:
        if model.is_spherical:
            return None
        x, y = examples(model, data, max(self.fit_images, self.image + 1))
        if model.one_hots:
            return self._categories(model, x, self.subject(model, data))
        if model.index_shape is not None:
            return self._codebook(model, x, self.subject(model, data))
        moved = self.moved(model, x, y)
        note, words = f"{self._in_words(model, len(x))}; ▴ the image's own code", {}
        note += f"; decoded given its label {label_name(int(y[moved.image]), data)}" if model.is_conditional else ""
        if len(model.code_shape) > 1:
            words = {"centre": "own code", "moved": "channels"}
        real, subject = x[moved.image].cpu(), self.subject(model, data)
        return figures.traversals(
            real, moved.recon, moved.strips, moved.names, moved.own, self.extent, subject, note, **words
        )

    def _in_words(self, model: Any, count: int) -> str:
        """What a row moves, of a code that is continuous."""
        what = (
            "one channel of the code per row, all its positions together, the others stay at the image's code;"
            " that code"
            if len(model.code_shape) > 1
            else "one latent dimension per row, the others stay at the image's code; mean"
        )
        return f"{what} ± {self.extent:g}σ of the aggregate posterior of {count} {self.of}"

    def moved(self, model: Any, x: Tensor, y: Tensor) -> "Moved":
        """The traversals of one of these images (N, C, H, W), labelled (N,), by their statistics."""
        codes, variance, kl, _ = codes_of(model, x, y)
        std = (codes.var(0, correction=0) + variance.mean(0)).sqrt()
        parts, names = ranked_directions(model, std.square() if kl is None else kl.mean(0), kl is not None, self.rows)
        start = codes[image := min(self.image, len(x) - 1)]
        middle = start if len(model.code_shape) > 1 else codes.mean(0)
        paths = traversal_codes(start, middle, std, parts, self.steps, self.extent)
        seen = model.given(y[image])
        strips = decode(seen, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
        own = [float(((start - middle) / std.clamp(min=1e-12))[part].mean()) for part in parts]
        return Moved(image, decode(seen, start[None])[0], strips, names, own)

    def _categories(self, model: Any, x: Tensor, subject: str) -> Figure:
        """Each category in turn, with the groups that vary most first; below, Gaussian dimensions if there are any."""
        codes, image = encode(model, x), min(self.image, len(x) - 1)
        strips = category_strips(model, codes, codes[image], self.rows, CODES)
        free = torch.ones(codes.shape[1], dtype=torch.bool)
        for part in model.one_hots:
            free[part] = False
        std = codes.std(0, correction=0)
        order = [at for at in std.argsort(descending=True, stable=True).tolist() if free[at]][: self.rows]
        parts = [slice(at, at + 1) for at in order]
        paths = traversal_codes(codes[image], codes.mean(0), std, parts, self.steps, self.extent)
        strips |= {f"z{at}": decode(model, path) for at, path in zip(order, paths, strict=True)}
        rows = {"real, reconstruction": torch.cat([x[image].cpu()[None], decode(model, codes[image][None])]), **strips}
        note = "one group of categories per row, each category in turn; the others stay at the image's code" + (
            f"; below, one dimension per row from mean - {self.extent:g}σ to mean + {self.extent:g}σ" if order else ""
        )
        return figures.rows(rows, "Traversals of categories", subject, note)

    def _codebook(self, model: Any, x: Tensor, subject: str) -> Figure:
        """What the most used codes stand for: discrete codes have no dimensions that could be moved."""
        image = x[min(self.image, len(x) - 1)]
        everywhere, at_centre, shares, used = codebook_images(model, x, image, CODES)
        first = model.index_layout.codebooks[0]
        of_others = f" of {in_words(first.name)}" if first.name else ""
        of_others += " (those of the other grid stay the image's)" if len(model.index_layout.grids) > 1 else ""
        note = f"the {len(shares)} most used of {used} codes in use, of {first.size:,}{of_others}"
        rows = {"everywhere": everywhere, "in the centre": at_centre}
        if not model.channel_levels:
            note += f", with their share among {len(x)} {self.of}; above in every position, below in the"
            return figures.codebook(rows, shares, subject, f"{note} central one of the image")
        rows |= channel_strips(model, model.encode(image[None])[0], self.rows, CODES)
        note += (
            ": first in every position, then in the central one of the image; below, one channel per row at each of its"
        )
        return figures.rows(rows, "Codes and their channels", subject, f"{note} values in turn, in all positions")


def category_strips(model: Any, codes: Tensor, start: Tensor, rows: int, columns: int) -> dict[str, Tensor]:
    """Decoded images of each category of a group in turn, (K, C, H, W) by the name of the group.

    The other groups stay as in the code ``start`` (D,). At most ``rows`` groups, those whose ``codes`` (N, D) vary most
    first, and ``columns`` categories of each.
    """
    variance = codes.var(0, correction=0)
    parts = sorted(model.one_hots, key=lambda part: -float(variance[part].sum()))[:rows]
    strips = {}
    for part in parts:
        count = min(columns, part.stop - part.start)
        moved = start.repeat(count, 1)
        moved[:, part] = torch.eye(count, part.stop - part.start, dtype=start.dtype)
        strips[f"z{part.start} to z{part.stop - 1}"] = decode(model, moved)
    return strips


def ranked_directions(model: Any, spread: Tensor, of_kl: bool, count: int) -> tuple[list[slice], list[str]]:
    """The ``count`` directions of the largest ``spread`` (D,), with names that state it; KL in nats, or variance."""
    sums = torch.stack([spread[part].sum() for part in model.directions])
    order = sums.argsort(descending=True, stable=True)[:count].tolist()
    name, unit = "channel " if len(model.code_shape) > 1 else "z", "nats" if of_kl else "variance"
    return [model.directions[at] for at in order], [f"{name}{at}  {sums[at]:.2f} {unit}" for at in order]


def traversal_codes(
    start: Tensor, middle: Tensor, std: Tensor, parts: Sequence[slice], steps: int, extent: float
) -> Tensor:
    """``start`` (D,) with one part per row set from middle - extent std to middle + extent std: (R, steps, D)."""
    offsets = torch.linspace(-extent, extent, steps, dtype=start.dtype)
    codes = start.repeat(len(parts), steps, 1)
    for row, part in enumerate(parts):
        codes[row, :, part] = middle[part] + offsets[:, None] * std[part]
    return codes
