"""Model outputs that the report shows: the same images, interpolations and draws for every model."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.figures import Prior, planes
from vaezoo.metrics.mixtures import fit_mixture, no_mixture
from vaezoo.metrics.paths import choose_pairs, path_speed
from vaezoo.nn.interpolation import METHODS
from vaezoo.training.callbacks.images import category_strips, ranked_directions, traversal_codes
from vaezoo.training.callbacks.indices import codebook_images
from vaezoo.training.callbacks.latents import SIGMAS, decoded_plane, limits_around, prior_in_plane
from vaezoo.training.callbacks.pictures import codes_of, decode, encode, finite, label_name

IMAGES, TRAINING, MAP = 1000, 10_000, 1000
"""Maximum numbers of test images, of training images, and of points on a map."""
MOST_PIXELS = 2**26
"""Maximum number of training pixels; fewer large images are used."""
COLUMNS, PAIRS, STEPS, FINE_STEPS, DRAWS = 8, 3, 7, 33, 10
ROWS, EXTENT = 6, 2.5
"""Number of traversed dimensions, and their range in standard deviations to each side."""
LINE = 200
"""Places at which the density of a prior over a one-dimensional code is computed."""
ELLIPSES = 50
SEED = 0


@dataclass
class Images:
    """The images shown for every model: test and training (N, C, H, W), and positions of random images and pairs."""

    test: Tensor
    labels: Tensor
    training: Tensor
    factors: tuple[Any, ...]
    random: list[int]
    pairs: list[tuple[int, int]]

    @property
    def start(self) -> Tensor:
        """First images of the pairs, (P, C, H, W)."""
        return self.test[[pair[0] for pair in self.pairs]]

    @property
    def end(self) -> Tensor:
        """Second images of the pairs, (P, C, H, W)."""
        return self.test[[pair[1] for pair in self.pairs]]


@dataclass
class Draws:
    """Decoded draws and the nearest training image of each, (B, C, H, W), and the distribution drawn from."""

    images: Tensor
    nearest: Tensor
    source: str


@dataclass
class Traversal:
    """Rows of images that show what parts of the code stand for, (R, S, C, H, W), with labels of rows and columns."""

    strips: Tensor
    rows: list[str]
    columns: list[str]


@dataclass
class ModelOutputs:
    """Outputs of one model, on the CPU; ``kl``, (M, D) in nats, is None if there is none of each dimension."""

    recon: Tensor
    psnr: Tensor
    strips: dict[str, Tensor]
    """Interpolations by method: (pairs, steps, C, H, W)."""
    paces: dict[str, Tensor]
    """By method: size of each step relative to the mean of its path, (pairs, FINE_STEPS - 1)."""
    codes: Tensor
    outlines: np.ndarray
    """Posteriors of the first points as ellipses: width, height and angle in degrees, (E, 3)."""
    kl: Tensor | None
    is_discrete: bool
    prior: Prior | None
    """In the plane of the map."""
    density: np.ndarray | None
    """Density of the prior at ``LINE`` places of a one-dimensional code; None for other codes or without a prior."""
    plane: planes.Limits
    axes: planes.Axes2 | None
    decoded: np.ndarray | None
    draws: dict[str, Draws]
    traversal: "Traversal"
    label: str = ""
    """Name of the label that plane and traversal are decoded with; empty for a model that is not conditional."""


def images_of(data: Any) -> Images:
    """Choose images of a data module, independently of any model."""
    data.prepare_data()
    data.setup()
    test, labels = data.examples(IMAGES, "test")
    pixels = math.prod(data.image_shape)
    training, _ = data.examples(min(TRAINING, MOST_PIXELS // pixels), "train")
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(SEED)).tolist()
    pairs = choose_pairs(labels, PAIRS, seed=SEED)
    return Images(test, labels, training, tuple(data.factors), order[:COLUMNS], pairs)


@torch.no_grad()
def compute_outputs(model: Any, images: Images) -> ModelOutputs:
    """Compute a model's outputs; FloatingPointError if they are not finite."""
    recon = decode(model, encode(model, images.test, images.labels), images.labels)
    codes, variance, kl, _ = codes_of(model, images.test[:MAP], images.labels[:MAP])
    seen = model.given(images.labels[0])
    strips = {method: _path(model, images, method, STEPS) for method in METHODS}
    axes = planes.principal_axes(codes) if codes.shape[1] > 1 else None
    outlines = planes.ellipses(variance[:ELLIPSES], axes, SIGMAS) if axes and variance.any() else np.empty((0, 3))
    reach, prior = float(outlines[:, :2].max(initial=0)) / 2, prior_in_plane(model, axes) if axes else None
    where = (
        limits_around(axes.project(codes), reach, prior)
        if axes
        else planes.limits(codes, prior_centre=codes.new_zeros(1))
    )
    return ModelOutputs(
        recon=recon,
        psnr=metrics.psnr(metrics.mse(images.test, recon)),
        strips=strips,
        paces={method: path_speed(_path(model, images, method, FINE_STEPS)) for method in METHODS},
        codes=codes,
        outlines=outlines,
        kl=kl,
        is_discrete=model.index_shape is not None,
        prior=prior,
        density=_density(model, where) if axes is None else None,
        plane=where,
        axes=axes,
        decoded=decoded_plane(seen, where, 16) if codes.shape[1] == 2 else None,
        draws=_draw(model, images),
        traversal=_traversal(seen, images, codes, variance, kl),
        label=label_name(int(images.labels[0]), images) if model.is_conditional else "",
    )


def _path(model: Any, images: Images, method: str, steps: int) -> Tensor:
    if not images.pairs:
        return torch.empty(0, steps, *images.test.shape[1:])
    first, last = ([pair[side] for pair in images.pairs] for side in (0, 1))
    seen = model.given(images.labels[first], images.labels[last])
    strips = seen.interpolate(images.start, images.end, steps=steps, method=method)
    return finite(strips, "interpolations")


def _density(model: Any, where: planes.Limits) -> np.ndarray | None:
    prior = model.prior()
    if prior is None:
        return None
    places = torch.linspace(where.left, where.right, LINE, device=model.device)
    return np.asarray(prior.log_prob(places[:, None]).exp().cpu())


def _draw(model: Any, images: Images) -> dict[str, Draws]:
    """Decoded draws of the model's prior ("prior") and of a mixture fitted to training codes ("mixture").

    A model without a prior decodes draws of N(0, I) instead, which shows what it was not trained on; one with discrete
    codes has no draws of a prior unless one was fitted to its indices, and one with very many dimensions none of a
    mixture. A conditional model draws one image for each of the first labels, and none of a mixture.
    """
    found = {}
    seen = model.given(torch.arange(DRAWS) % model.classes) if model.is_conditional else model
    samples = seen.sample(DRAWS, torch.Generator().manual_seed(SEED))
    if samples is not None:
        source = "prior" if model.index_prior is None else "a prior fitted to its indices after training"
        found["prior"] = _with_nearest(finite(samples, "samples"), images.training, source)
    elif model.index_shape is None:
        noise = torch.randn(DRAWS, model.latent_dim, generator=torch.Generator().manual_seed(SEED))
        of_noise = "no prior: N(0, I), on which this model was not trained"
        found["prior"] = _with_nearest(decode(seen, noise), images.training, of_noise)
    if model.is_conditional:
        return found
    codes = encode(model, images.training)
    if not no_mixture(codes):
        mixture = model.mixture or fit_mixture(codes)  # that of the run's evaluation, if there is one
        mixed = mixture.sample(DRAWS, torch.Generator().manual_seed(SEED))
        found["mixture"] = _with_nearest(decode(model, mixed), images.training, "mixture")
    return found


def _with_nearest(drawn: Tensor, training: Tensor, source: str) -> Draws:
    near = torch.cdist(drawn.flatten(1), training.flatten(1)).argmin(1)
    return Draws(drawn, training[near], source)


def _traversal(model: Any, images: Images, codes: Tensor, variance: Tensor, kl: Tensor | None) -> Traversal:
    if model.index_shape is None:
        return _traverse(model, codes, variance, kl)
    if not model.one_hots:
        return _codebook(model, images)
    strips = category_strips(model, codes, encode(model, images.test[images.random[:1]])[0], ROWS, STEPS)
    return Traversal(
        torch.stack(list(strips.values())), list(strips), [str(at) for at in range(len(next(iter(strips.values()))))]
    )


def _traverse(model: Any, codes: Tensor, variance: Tensor, kl: Tensor | None) -> Traversal:
    """One row per latent dimension, or channel of a spatial code, sorted by mean KL in nats, or else by variance.

    None for codes on a sphere, whose coordinates cannot move one at a time.
    """
    if model.is_spherical:
        return Traversal(torch.empty(0, STEPS, *model.image_shape), [], [])
    std = (codes.var(0, correction=0) + variance.mean(0)).sqrt()
    parts, names = ranked_directions(model, std.square() if kl is None else kl.mean(0), kl is not None, ROWS)
    centre = codes.mean(0)
    paths = traversal_codes(centre, centre, std, parts, STEPS, EXTENT)
    strips = decode(model, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
    offsets = [EXTENT * (2 * step / (STEPS - 1) - 1) for step in range(STEPS)]
    columns = [f"{offset:+.1f}σ".replace("-", "−") if offset else "mean" for offset in offsets]
    return Traversal(strips, [name.replace("  ", ": ") for name in names], columns)


def _codebook(model: Any, images: Images) -> Traversal:
    """The most used codes of a codebook: in every position, and in the central one of a test image."""
    everywhere, at_centre, shares, _ = codebook_images(model, images.test, images.test[images.random[0]], STEPS)
    rows = ["code in every position", "in the centre of an image"]
    return Traversal(torch.stack([everywhere, at_centre]), rows, [f"{share:.1%}" for share in shares])
