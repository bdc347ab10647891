"""What a page contains of one model: codes of training images, ranges of sliders, axes, draws, and programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import RunError
from vaezoo.evaluation.cost import count_parameters
from vaezoo.explorer.draws import Draws, codes_drawn, indices_drawn
from vaezoo.explorer.images import Images
from vaezoo.explorer.programs import page_programs, written
from vaezoo.figures import planes
from vaezoo.metrics.basic import ACTIVE_THRESHOLD
from vaezoo.models import Autoencoder
from vaezoo.training.callbacks.pictures import Codes, codes_of

MOST_BYTES = 50 * 10**6
"""Maximum size of a model's weights on a page."""
CODE_NUMBERS = 2**18
"""Maximum number of values in the training codes on a page."""
FEWEST_CODES = 50
"""Minimum number of training codes, whatever their size."""
MOST_SLIDERS = 256
COMMON = 12
"""Codes of a codebook that can be chosen for a position."""
TAILS = 0.005
"""Part of the training codes that lies beyond each end of a slider."""
ACTIVE_SHARE = 1e-3
"""Without a posterior, a direction is used if its codes have this share of the largest variance."""

METRICS = {"elbo": ("ELBO", "nats"), "recon": ("recon", "nats"), "kl": ("KL", "nats"), "psnr": ("PSNR", "dB")}
"""Test metrics on a page, with their names and units."""


@dataclass(frozen=True)
class Slider:
    """A part of the code that moves together: dimensions ``start`` to ``stop`` - 1, one if the code is flat.

    ``size`` is the mean KL in nats, or the variance of the codes; ``low`` and ``high`` are the range of the training
    codes without ``TAILS``.
    """

    name: str
    start: int
    stop: int
    size: float
    low: float
    high: float
    used: bool


@dataclass(frozen=True)
class Plane:
    """The principal axes of the training codes: centre (D,), directions (2, D), and their shares of the variance."""

    centre: Tensor
    directions: Tensor
    shares: list[float]


@dataclass(frozen=True)
class Book:
    """A codebook: its number of entries, its grid of positions, and where their indices are in a sequence.

    ``common`` are the entries that training images have most often.
    """

    name: str
    size: int
    height: int
    width: int
    start: int
    step: int
    common: list[int]


@dataclass(frozen=True)
class ModelContent:
    """A model on a page. ``codes`` (N, D) are those of the first training images; of discrete codes, ``books``.

    ``categories`` are the first dimension of each one-hot part of the code, and the one after its last.
    """

    name: str
    objective: str
    metrics: list[str]
    latent_dim: int
    classes: int
    has_prior: bool
    draws: Draws | None
    unit: str
    sliders: list[Slider]
    categories: list[list[int]]
    codes: Tensor | None
    plane: Plane | None
    books: list[Book]
    programs: dict[str, bytes]


@torch.no_grad()
def content_of(model: Autoencoder, name: str, summary: Mapping[str, Any], images: Images) -> ModelContent:
    """What the page contains of a model.

    RunError if it is too large or a program cannot be written, FloatingPointError if outputs are not finite.
    """
    refuse_large(model)
    count = min(8, len(images.test))
    labels = images.test_labels[:count] if model.is_conditional else torch.zeros(count, dtype=torch.int64)
    discrete = model.index_layout is not None
    found = None if discrete else codes_of(model, images.measured, images.measured_labels)
    sliders, unit = ([], "") if found is None else _sliders(model, found)
    return ModelContent(
        name=name,
        objective=str(summary.get("objective") or model.formula()),
        metrics=_metrics(summary),
        latent_dim=model.latent_dim,
        classes=model.classes or 0 if model.is_conditional else 0,
        has_prior=model.prior() is not None,
        draws=indices_drawn(model, images) if found is None else codes_drawn(model, found.mean),
        unit=unit,
        sliders=sliders[:MOST_SLIDERS],
        categories=[] if discrete else [[part.start, part.stop] for part in model.one_hots],
        codes=None if found is None else found.mean[: _codes_shown(model, images)].float(),
        plane=None if found is None else _plane(model, found.mean),
        books=_books(model, images),
        programs=written(page_programs(model), images.test[:count], labels),
    )


def refuse_large(model: Autoencoder) -> None:
    """RunError for a model whose weights are larger than a page takes."""
    size = 4 * count_parameters(model)
    if size > MOST_BYTES:
        raise RunError(
            f"its weights take {size / 1e6:,.0f} MB, and a page holds models of up to {MOST_BYTES / 1e6:.0f} MB"
        )


def _metrics(summary: Mapping[str, Any]) -> list[str]:
    test = summary.get("test")
    numbers = test if isinstance(test, dict) else {}
    return [
        f"{name} {numbers[key]:.1f} {unit}"
        for key, (name, unit) in METRICS.items()
        if isinstance(numbers.get(key), float)
    ]


def _codes_shown(model: Autoencoder, images: Images) -> int:
    return min(images.count, max(FEWEST_CODES, CODE_NUMBERS // model.latent_dim))


def _sliders(model: Autoencoder, found: Codes) -> tuple[list[Slider], str]:
    """One for each direction by falling KL, or else variance, and its unit; none for codes on a sphere."""
    if model.is_spherical:
        return [], ""
    variance = found.mean.var(0, correction=0)
    spread = variance if found.kl is None else found.kl.mean(0)
    least = ACTIVE_THRESHOLD if found.has_posterior else ACTIVE_SHARE * float(variance.max())
    spatial, sliders = len(model.code_shape) > 1, []
    categories = {at for part in model.one_hots for at in range(part.start, part.stop)}
    for at, part in enumerate(model.directions):
        if part.start in categories:
            continue
        low, high = torch.quantile(found.mean[:, part].mean(1), torch.tensor([TAILS, 1 - TAILS]).double()).tolist()
        used = high > low and float(variance[part].max()) > least
        name = f"channel {at}" if spatial else f"z{at}"
        sliders.append(Slider(name, part.start, part.stop, float(spread[part].sum()), low, high, used))
    return sorted(sliders, key=lambda slider: -slider.size), "variance" if found.kl is None else "nats"


def _plane(model: Autoencoder, codes: Tensor) -> Plane | None:
    """The principal axes of the dimensions that can be moved; None for fewer than two."""
    free = torch.ones(codes.shape[1], dtype=torch.bool)
    for part in model.one_hots:
        free[part] = False
    if int(free.sum()) < 2:
        return None
    axes = planes.principal_axes(codes[:, free])
    centre, directions = codes.mean(0), codes.new_zeros(2, len(free))
    centre[free], directions[:, free] = axes.centre, axes.directions.T
    return Plane(centre.float(), directions.float(), axes.shares.tolist())


def _books(model: Autoencoder, images: Images) -> list[Book]:
    layout = model.index_layout
    if layout is None:
        return []
    shapes = [(grid.height, grid.width) for grid in layout.grids.values() for _ in grid.sizes]
    indices = model.indices(images.measured[: images.count])
    assert indices is not None
    counts = layout.counts(indices)
    return [
        Book(book.name, book.size, *shape, book.places.start, book.places.step, _most(counts[book.name], COMMON))
        for book, shape in zip(layout.codebooks, shapes, strict=True)
    ]


def _most(counts: Tensor, number: int) -> list[int]:
    """The indices with the largest counts (K,), at most ``number``."""
    found: list[int] = counts.argsort(descending=True, stable=True)[:number].tolist()
    return found
