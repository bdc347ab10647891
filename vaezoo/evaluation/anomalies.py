"""Scores of how unlike its training images an image is to a model; all are higher for anomalies."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo import metrics
from vaezoo.config.errors import DataError
from vaezoo.data.named_images import NamedBatch, NamedImages
from vaezoo.evaluation.per_image import BATCH, NO_POSTERIOR, bound_terms, elbo_name
from vaezoo.metrics import bounds

NEIGHBOURS = 5
DRAWS = 50
MOST_CODES = 10_000
"""Maximum number of training codes that others are compared with."""

MOST_DIMENSIONS = 4096
"""Maximum dimensions of codes whose covariance is estimated."""

SCORES = {
    "mse": "mean squared error of the reconstruction over pixels",
    "recon": "-log p(x|z) of a drawn code, in nats",
    "neg_elbo": "-ELBO: recon + kl, in nats",
    "neg_iw_bound": "minus the importance-weighted bound on log p(x), in nats",
    "kl": "nats that the code costs",
    "knn_distance": "distance of the code from the k-th nearest training code",
    "mahalanobis": "distance of the code from the mean of training codes, in standard deviations",
}
"""All scores, with what they are."""

LIKELIHOODS = ("recon", "neg_elbo", "neg_iw_bound")
"""Scores by a density or a bound on it."""


@dataclass(frozen=True)
class TrainingCodes:
    """Codes of training images (N, D) that those of other images are compared with.

    The covariance is shrunk towards a multiple of the identity as by Ledoit and Wolf (2004), so that it has an inverse
    even with fewer images than dimensions. The k-th neighbour is as in Sun et al. (2022), but of codes as they are.
    """

    neighbours: int
    _index: Any = field(repr=False)
    _covariance: Any = field(repr=False)

    @classmethod
    def fit(cls, codes: Tensor, neighbours: int = NEIGHBOURS) -> "TrainingCodes":
        """Those of training images; DataError with fewer than 2 or than ``neighbours``."""
        from sklearn.covariance import LedoitWolf
        from sklearn.neighbors import NearestNeighbors

        if len(codes) < max(2, neighbours):
            raise DataError(f"{neighbours} neighbours need as many training images, at least 2, got {len(codes)}")
        values = codes.double().numpy()
        small = values.shape[1] <= MOST_DIMENSIONS
        return cls(
            neighbours,
            NearestNeighbors(n_neighbors=neighbours).fit(values),
            LedoitWolf().fit(values) if small else None,
        )

    def distances(self, codes: Tensor) -> dict[str, Tensor]:
        """``knn_distance`` and, of codes of at most ``MOST_DIMENSIONS``, ``mahalanobis``: (B, D) -> (B,) each."""
        values = codes.double().cpu().numpy()
        found = {"knn_distance": torch.from_numpy(self._index.kneighbors(values)[0][:, -1])}
        if self._covariance is not None:
            found["mahalanobis"] = torch.from_numpy(np.sqrt(self._covariance.mahalanobis(values)))
        return found


@dataclass(frozen=True)
class AnomalyScorer:
    """Scores images by a model, and by its training codes if there are any.

    Args:
        model: in evaluation mode.
        codes: of training images; without them there are no distances.
        draws: of the importance-weighted bound, for each image; with 0 there is no such bound.
        seed: of all draws, which do not depend on the size of batches.
    """

    model: Any
    codes: TrainingCodes | None = None
    draws: int = DRAWS
    seed: int = 0

    def __call__(self, x: Tensor, labels: Tensor | int | None = None) -> dict[str, Tensor]:
        """The scores of images (B, C, H, W) in [0, 1] by name, (B,) each, float64, on the CPU.

        See ``SCORES``; without those that the model does not have. ``labels`` are needed by a conditional model alone.
        """
        given = torch.full((len(x),), -1) if labels is None else torch.as_tensor(labels).expand(len(x))
        return self._score(x, given, start=0)

    def scores(self, x: Tensor, labels: Tensor, size: int = BATCH) -> dict[str, Tensor]:
        """As by a call, for any number of images (N, C, H, W), which are scored a batch at a time."""
        parts = zip(x.split(size), labels.split(size), strict=True)
        found = [self._score(part, of_part, at * size) for at, (part, of_part) in enumerate(parts)]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    @torch.no_grad()
    def _score(self, x: Tensor, labels: Tensor, start: int) -> dict[str, Tensor]:
        x, seen = x.to(self.model.device), self.model.given(labels) if self.model.is_conditional else self.model
        terms = bound_terms(self.model, x, labels, seed=self.seed, start=start)
        code = seen.encode(x)
        found = {"mse": metrics.mse(x, seen.decode(code)).double(), "recon": terms["recon"]}
        if "kl" in terms:
            found["neg_elbo"] = -terms[elbo_name(self.model)]
            found |= self._bound(seen, x, labels, start) | {"kl": terms["kl"]}
        found |= {} if self.codes is None else self.codes.distances(code)
        return {name: values.cpu() for name, values in found.items()}

    def _bound(self, seen: Any, x: Tensor, labels: Tensor, start: int) -> dict[str, Tensor]:
        """The bound of several draws; nothing without draws, or if those of a code are all equal."""
        if not self.draws or seen.posterior(x[:1] if seen is self.model else x) is None:
            return {}
        known = labels if self.model.is_conditional else None
        bound, _ = bounds.importance_weighted_bound(
            self.model, x, self.draws, labels=known, seed=self.seed, start=start
        )
        return {"neg_iw_bound": -bound}

    def score(self, images: NamedImages, *, size: int = BATCH) -> Iterator[tuple[NamedBatch, dict[str, NDArray[Any]]]]:
        """Batches of images in order, each with its rows: what identifies an image, and its scores."""
        for batch in images.batches(size):
            found = self._score(batch.x, batch.labels, batch.start)
            yield batch, images.columns(batch) | {name: values.numpy() for name, values in found.items()}


def missing_scores(scorer: AnomalyScorer, found: Collection[str]) -> dict[str, str]:
    """Why some of ``SCORES`` were not found, by name."""
    reasons = dict.fromkeys(("neg_elbo", "neg_iw_bound", "kl"), NO_POSTERIOR)
    if "kl" in found:
        reasons["neg_iw_bound"] = "all draws of a point are equal"
    reasons["knn_distance"] = "exported weights have no training images to compare codes with"
    reasons["mahalanobis"] = reasons["knn_distance"]
    if scorer.codes is not None:
        reasons["mahalanobis"] = f"codes have more than {MOST_DIMENSIONS:,} dimensions"
    return {name: reasons[name] for name in SCORES if name not in found}


@torch.no_grad()
def training_codes(model: Any, batches: Iterable[NamedBatch], most: int = MOST_CODES) -> Tensor:
    """Codes of the first ``most`` training images: (N, D), on the CPU."""
    found, count = list[Tensor](), 0
    for batch in batches:
        seen = model.given(batch.labels) if model.is_conditional else model
        found.append(seen.encode(batch.x.to(model.device)).cpu())
        count += len(batch.x)
        if count >= most:
            break
    return torch.cat(found)[:most]
