"""Pictures and animations of a trained model, by the figures that are drawn during training."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vaezoo import figures
from vaezoo.commands.apply.render_options import RenderOptions
from vaezoo.commands.apply.request import Request
from vaezoo.config.errors import ConfigError, DataError, RunError
from vaezoo.data.named_images import NamedImages
from vaezoo.figures.canvas import mosaic_page, titled
from vaezoo.figures.mosaics import Mosaic, compose, framed
from vaezoo.metrics.paths import choose_pairs
from vaezoo.models.trained import Trained
from vaezoo.training.callbacks.images import Interpolations, Reconstructions, Samples, Traversals
from vaezoo.training.callbacks.pictures import Picture, finite

FRAME, PAUSE = 80, 600
"""Milliseconds that a frame of an animation is shown, and that its first and last ones are."""

STEPS = {False: 9, True: 25}
"""Images of a path in a picture, and frames in an animation."""

COLUMNS = 16
"""Samples in a row."""

FITTED = 1000
"""Images whose codes give the mean and the standard deviations of traversals."""

MOST_PIXELS, LONGEST_SIDE = 2**27, 2**16 - 1
"""Maximum size of a picture: half a gigabyte of memory, and what matplotlib can draw."""

Frames = list[np.ndarray]
"""Pictures uint8 (H, W, 3) of one size; several are an animation."""


class Examples:
    """What figures take from a data module: the first images of those that were asked for, decoded when needed."""

    def __init__(self, trained: Trained, request: Request, first: str | None = None) -> None:
        self.trained, self.request, self.first = trained, request, first

    @cached_property
    def images(self) -> NamedImages:
        """The images that were asked for."""
        return self.request.images(self.trained)

    @property
    def factors(self) -> tuple[Any, ...]:
        """Those of the data set, which name labels."""
        return () if self.trained.data is None else self.trained.data.factors

    @property
    def name(self) -> str:
        """What the images are, in titles."""
        where = self.request.options.images or "test"
        return {"train": "training images", "val": "validation images", "test": "test images"}.get(
            where, f"images in {Path(where).name}"
        )

    def examples(self, count: int, split: str = "val") -> tuple[Tensor, Tensor]:
        """The first ``count`` images that can be read (B, C, H, W), after ``first`` if there is one; and labels."""
        parts, found = ([] if self.first is None else [self.one(self.first)]), 0
        for batch in self.images.batches(min(count, 128)):
            parts.append((batch.x, batch.labels))
            found += len(batch.x)
            if found >= count:
                break
        x, y = (torch.cat(each)[:count] for each in zip(*parts, strict=True))
        return x, y

    def one(self, path: str) -> tuple[Tensor, Tensor]:
        """The image in a file (1, C, H, W), and its label (1,)."""
        found = self.request.images(self.trained, path)
        if len(found) != 1:
            raise DataError(f"a and b must be image files, got {path} with {len(found):,} images")
        batch = next(iter(found.batches(1)))
        return batch.x, batch.labels

    def describe(self) -> dict[str, Any]:
        """The name of the data set, for titles."""
        return {"name": "files" if self.trained.data is None else self.trained.data.name}


def draw(trained: Trained, request: Request, options: RenderOptions) -> Frames:
    """The picture, or the frames of an animation; RunError if this model has none of them."""
    data = Examples(trained, request, options.a if options.what == "traverse" else None)
    moves = request.out.suffix.lower() == ".gif"
    still: dict[str, Callable[..., Any]] = {
        "sample": _samples,
        "reconstruct": _reconstructions,
        "interpolate": _interpolations,
        "traverse": _traversals,
    }
    found = still[str(options.what)](trained.model, data, options, moves)
    if found is None:
        raise RunError(f"{type(trained.model).__name__} has nothing to {options.what}; choose another what=")
    drawn = found if isinstance(found, list) else [found]
    for figure in drawn:
        figure.set_dpi(options.dpi)
        _refuse_beyond(figure)
    return _of_one_size([figures.raster(figure) for figure in drawn])


def _refuse_beyond(figure: Figure) -> None:
    """ConfigError for a picture of more than ``MOST_PIXELS``."""
    width, height = (round(side * figure.dpi) for side in figure.get_size_inches())
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ConfigError(
            f"the picture would have {width:,}x{height:,} pixels, more than can be drawn; lower render.count, steps,"
            " rows or dpi"
        )


def _of_one_size(frames: Frames) -> Frames:
    """The frames with white at the right and below, where their titles make some of them smaller."""
    height, width = (max(frame.shape[side] for frame in frames) for side in (0, 1))
    sides = [((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0)) for frame in frames]
    return [np.pad(frame, side, constant_values=255) for frame, side in zip(frames, sides, strict=True)]


def write(frames: Frames, path: Path, ending: str) -> None:
    """Write a picture, or an animation that runs forth and back for ever."""
    images = [Image.fromarray(frame) for frame in frames]
    if ending == ".png":
        images[0].save(path, format="png")
        return
    back = images[-2:0:-1]
    shown = [PAUSE, *[FRAME] * (len(images) - 2), PAUSE, *[FRAME] * len(back)]
    images[0].save(path, format="gif", save_all=True, append_images=[*images[1:], *back], duration=shown, loop=0)


def _of(picture: Picture, data: Examples) -> Picture:
    picture.of = data.name
    return picture


def _subject(model: Any, data: Examples) -> str:
    return f"{type(model).__name__} on {data.describe()['name']}"


# kinds of pictures ---------------------------------------------------------------------------------------------------


def _samples(model: Any, data: Examples, options: RenderOptions, moves: bool) -> Figure | None:
    count, label, seed = options.count or 64, data.request.options.label, data.request.options.seed
    if options.prior is None and label is None:
        return _of(Samples(count=count, columns=COLUMNS, seed=seed), data).figure(model, data)
    if label is not None and not model.is_conditional:
        raise RunError(f"label={label} is for a conditional model, and {type(model).__name__} is not one")
    seen = model if label is None else model.given(label)
    images = seen.sample(count, torch.Generator().manual_seed(seed), prior=options.prior)
    if images is None:
        return None
    title = "Samples from the prior" if options.prior is None else "Samples from a mixture fitted to training codes"
    note = "" if label is None else f"given the label {label}"
    return figures.samples(finite(images, "samples"), COLUMNS, title, _subject(model, data), note)


def _reconstructions(model: Any, data: Examples, options: RenderOptions, moves: bool) -> Figure | list[Figure] | None:
    count = options.count or 10
    if not moves:
        return _of(Reconstructions(count=count), data).figure(model, data)
    x, labels = data.examples(count)
    recon = finite(model.given(labels).reconstruct(x.to(model.device)), "reconstructions")
    pages = {data.name[:1].upper() + data.name[1:]: x, f"Reconstructions of {data.name}": recon}
    return [_page(compose([list(part)]), title, model, data) for title, part in pages.items()]


def _interpolations(model: Any, data: Examples, options: RenderOptions, moves: bool) -> Figure | list[Figure] | None:
    steps = options.steps or STEPS[moves]
    if options.a is None and not moves:
        figure = _of(Interpolations(pairs=options.count or 4, steps=steps), data).figure(model, data)
        return _refuse_one_image() if figure is None else figure
    start, end, seen = _ends(model, data, options)
    if not moves:
        strips = {method: _path(seen, start, end, steps, method) for method in ("linear", "spherical")}
        subject = _subject(model, data)
        return figures.interpolations(start, end, strips, subject, _kept_label(model), of="two images")
    strip = _path(seen, start, end, steps, None)
    title = "Interpolation between codes" + _kept_label(model)
    return [
        _page(_between(start, strip[:, step], end), title, model, data, f"t = {step / (steps - 1):.2f}")
        for step in range(steps)
    ]


def _refuse_one_image() -> NoReturn:
    raise DataError("an interpolation needs two images; give more with images=FOLDER, or both as a=FILE and b=FILE")


def _kept_label(model: Any) -> str:
    return "; the label stays that of the first image" if model.is_conditional else ""


def _ends(model: Any, data: Examples, options: RenderOptions) -> tuple[Tensor, Tensor, Any]:
    """Images (B, C, H, W) at both ends of paths, and the model given their labels; DataError without any pair."""
    if options.a is not None and options.b is not None:
        (start, of_start), (end, of_end) = data.one(options.a), data.one(options.b)
        return start, end, model.given(of_start, of_end)
    count = options.count or 4
    x, labels = data.examples(4 * count)
    pairs = choose_pairs(labels, count)
    if not pairs:
        _refuse_one_image()
    first, last = ([pair[side] for pair in pairs] for side in (0, 1))
    return x[first], x[last], model.given(labels[first], labels[last])


def _path(seen: Any, start: Tensor, end: Tensor, steps: int, method: str | None) -> Tensor:
    strip = seen.interpolate(start.to(seen.device), end.to(seen.device), steps=steps, method=method)
    return finite(strip, "interpolations")


def _between(start: Tensor, decoded: Tensor, end: Tensor) -> Mosaic:
    """A row for each pair: the real images at the ends, framed, and the decoded one between them."""
    rows: list[list[Tensor | None]] = [list(row) for row in zip(start, decoded, end, strict=True)]
    mosaic = compose(rows, gap=6, before_column={1: 8, 2: 8})
    return framed(mosaic, [(row, column) for row in range(len(rows)) for column in (0, 2)])


def _traversals(model: Any, data: Examples, options: RenderOptions, moves: bool) -> Figure | list[Figure] | None:
    steps = options.steps or STEPS[moves]
    picture = Traversals(rows=options.rows, steps=steps, extent=options.extent, fit_images=FITTED)
    if not moves or model.is_spherical:
        return _of(picture, data).figure(model, data)
    if model.one_hots or model.index_shape is not None:
        raise RunError("discrete codes do not move in small steps; choose out=FILE.png")
    x, labels = data.examples(FITTED)
    moved = picture.moved(model, x.to(model.device), labels)
    offsets = torch.linspace(-options.extent, options.extent, steps).tolist()
    title = "Traversals of latent " + ("channels" if len(model.code_shape) > 1 else "dimensions")
    return [
        _page(_grid(moved.strips[:, step]), title, model, data, f"{offset:+.1f}σ", _names(moved.names))
        for step, offset in enumerate(offsets)
    ]


def _grid(images: Tensor, columns: int = 6) -> Mosaic:
    rows: list[list[Tensor | None]] = [list(images[at : at + columns]) for at in range(0, len(images), columns)]
    return compose(rows)


def _names(names: Sequence[str]) -> str:
    """The names of the parts that move, row by row, without their KL."""
    return ", ".join(name.split("  ")[0] for name in names)


def _page(mosaic: Mosaic, title: str, model: Any, data: Examples, *notes: str) -> Figure:
    """A frame of an animation."""
    figure, _ = mosaic_page(mosaic, titled(title, _subject(model, data)), "; ".join(filter(None, notes)))
    return figure
