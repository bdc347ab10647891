"""Model outputs that the report shows: the same images, interpolations and draws for every model."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaezoo import metrics
from vaezoo.figures import planes
from vaezoo.metrics.generation import fit_mixture
from vaezoo.metrics.paths import choose_pairs, path_speed
from vaezoo.nn.interpolation import METHODS
from vaezoo.training.callbacks.images import traversal_codes
from vaezoo.training.callbacks.latents import SIGMAS, decoded_plane
from vaezoo.training.callbacks.pictures import decode, encode, finite, posteriors

IMAGES, TRAINING, MAP = 1000, 10_000, 1000
"""Maximum numbers of test images, of training images, and of points on a map."""
MOST_PIXELS = 2**26
"""Maximum number of training pixels; fewer large images are used."""
COLUMNS, PAIRS, STEPS, FINE_STEPS, DRAWS = 8, 3, 7, 33, 10
ROWS, EXTENT = 6, 2.5
"""Number of traversed dimensions, and their range in standard deviations to each side."""
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
class ModelOutputs:
    """Outputs of one model, on the CPU; ``kl``, (M, D) in nats, is None without a posterior."""

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
    plane: planes.Limits
    axes: planes.Axes2 | None
    decoded: np.ndarray | None
    draws: dict[str, Draws]
    traversal: Tensor
    dimensions: list[int]
    spread: list[float]


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
    recon = decode(model, encode(model, images.test))
    codes, variance, kl = posteriors(model, images.test[:MAP])
    strips = {method: _path(model, images, method, STEPS) for method in METHODS}
    axes = planes.principal_axes(codes) if codes.shape[1] > 1 else None
    outlines = planes.ellipses(variance[:ELLIPSES], axes, SIGMAS) if axes and kl is not None else np.empty((0, 3))
    reach = float(outlines[:, :2].max(initial=0)) / 2
    where = planes.limits(axes.project(codes) if axes else codes, reach, _origin(codes, axes))
    traversal, dimensions, spread = _traverse(model, codes, variance, kl)
    return ModelOutputs(
        recon=recon,
        psnr=metrics.psnr(metrics.mse(images.test, recon)),
        strips=strips,
        paces={method: path_speed(_path(model, images, method, FINE_STEPS)) for method in METHODS},
        codes=codes,
        outlines=outlines,
        kl=kl,
        plane=where,
        axes=axes,
        decoded=decoded_plane(model, where, 16) if codes.shape[1] == 2 else None,
        draws=_draw(model, images),
        traversal=traversal,
        dimensions=dimensions,
        spread=spread,
    )


def _path(model: Any, images: Images, method: str, steps: int) -> Tensor:
    if not images.pairs:
        return torch.empty(0, steps, *images.test.shape[1:])
    strips = model.interpolate(images.start, images.end, steps=steps, method=method)
    return finite(strips, "interpolations")


def _origin(codes: Tensor, axes: planes.Axes2 | None) -> Tensor:
    origin = torch.zeros(codes.shape[1], dtype=codes.dtype)
    return axes.project(origin) if axes else origin


def _draw(model: Any, images: Images) -> dict[str, Draws]:
    """Decoded draws from N(0, I) ("prior") and from a Gaussian mixture fitted to training codes ("mixture")."""
    noise = torch.randn(DRAWS, model.latent_dim, generator=torch.Generator().manual_seed(SEED))
    known = model.log_prior(noise) is not None
    of_prior = "prior" if known else "no prior: N(0, I), on which this model was not trained"
    mixed = fit_mixture(encode(model, images.training)).sample(DRAWS, torch.Generator().manual_seed(SEED))
    return {
        "prior": _with_nearest(decode(model, noise), images.training, of_prior),
        "mixture": _with_nearest(decode(model, mixed), images.training, "mixture"),
    }


def _with_nearest(drawn: Tensor, training: Tensor, source: str) -> Draws:
    near = torch.cdist(drawn.flatten(1), training.flatten(1)).argmin(1)
    return Draws(drawn, training[near], source)


def _traverse(model: Any, codes: Tensor, variance: Tensor, kl: Tensor | None) -> tuple[Tensor, list[int], list[float]]:
    """Traversals (R, S, C, H, W) through the mean code, their dimensions, and the KL or variance of each.

    Dimensions are sorted by mean KL in nats, or by variance without a posterior, largest first.
    """
    std = (codes.var(0, correction=0) + variance.mean(0)).sqrt()
    spread = std.square() if kl is None else kl.mean(0)
    dimensions = spread.argsort(descending=True, stable=True)[:ROWS]
    centre = codes.mean(0)
    paths = traversal_codes(centre, centre, std, dimensions, STEPS, EXTENT)
    strips = decode(model, paths.flatten(0, 1)).unflatten(0, paths.shape[:2])
    return strips, dimensions.tolist(), spread[dimensions].tolist()
