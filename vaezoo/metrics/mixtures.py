"""Gaussian mixtures over codes (N, D), as priors that are fitted after training (Ghosh et al., 2020)."""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaezoo.metrics.components import principal_components
from vaezoo.metrics.generation import Array, checked

MOST_CODES = 10_000
"""Maximum number of codes for fitting a mixture; more are slower and hardly better."""

FULL_DIMENSIONS = 256
"""Maximum number of dimensions with full covariances of all; codes of more are projected on principal axes."""

MOST_AXES, SHARE, CODES_PER_AXIS = 128, 0.99, 20
"""The axes are as many as have this share of the variance, at most so many, and one for so many codes."""

MOST_DIMENSIONS = 2**14
"""Maximum number of dimensions: the axes of more fill neither memory nor a file of reasonable size."""

ROWS = 1024
"""Codes of many dimensions that are drawn at once."""

LEAST_NOISE = 1e-3
"""Lower bound of the noise outside of the axes, relative to the root mean square of all dimensions."""


class Subspace(NamedTuple):
    """Principal axes of codes, and a Gaussian outside of them, with the same variance in all directions (pPCA)."""

    center: Tensor
    """(D,)."""
    axes: Tensor
    """Orthonormal rows: (A, D)."""
    noise: Tensor
    """Standard deviation in each of the D - A directions outside: ()."""

    def project(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates on the axes, and the squared distance from them: (N, D) -> (N, A) and (N,)."""
        difference = codes - self.center
        scores = difference @ self.axes.T
        return scores, (difference - scores @ self.axes).square().sum(1)

    def embed(self, scores: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes with these coordinates on the axes, and drawn ones outside: (N, A) -> (N, D), float32."""
        return torch.cat([self._embed(part, generator).float() for part in scores.split(ROWS)])

    def _embed(self, scores: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(len(scores), len(self.center), generator=generator, dtype=scores.dtype)
        outside = noise - (noise @ self.axes.T) @ self.axes
        return self.center + scores @ self.axes + self.noise * outside

    def log_prob_outside(self, squares: Tensor) -> Tensor:
        """Log density outside of the axes, in nats, given squared distances from them: (N,) -> (N,)."""
        directions = self.axes.shape[1] - len(self.axes)
        return -0.5 * (squares / self.noise.square() + directions * (2 * math.pi * self.noise.square()).log())


class Mixture(NamedTuple):
    """A Gaussian mixture over codes, as a prior for models without one, in float64 on the CPU.

    With a ``subspace``, D is the number of its axes in what follows, and codes have those dimensions that it is in.
    """

    weights: Tensor
    """(K,), summing to 1."""
    means: Tensor
    """(K, D)."""
    factors: Tensor
    """Factors L of the covariances L L': (K, D, D)."""
    subspace: Subspace | None = None

    @property
    def dimensions(self) -> int:
        """Dimensions of the codes."""
        return self.means.shape[1] if self.subspace is None else len(self.subspace.center)

    @property
    def axes(self) -> int | None:
        """Number of principal axes on which codes are projected; None if they are not."""
        return None if self.subspace is None else len(self.subspace.axes)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Codes on the CPU, (count, D) or (count, ``dimensions``), float32. ``generator`` must be a CPU generator."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        drawn = self.means[component] + torch.einsum("nij,nj->ni", self.factors[component], noise)
        return drawn.float() if self.subspace is None else self.subspace.embed(drawn, generator)

    def log_prob(self, codes: Tensor) -> Tensor:
        """log p(z) of codes on the CPU, in nats: (N, D) -> (N,), float64."""
        if self.subspace is None:
            return self._log_prob(codes.double())
        scores, squares = self.subspace.project(codes.double())
        return self._log_prob(scores) + self.subspace.log_prob_outside(squares)

    def _log_prob(self, codes: Tensor) -> Tensor:
        difference = (codes[:, None] - self.means).permute(1, 2, 0)
        squares = torch.linalg.solve_triangular(self.factors, difference, upper=False).square().sum(1)
        scales = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constants = self.weights.log() - scales - 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        return (constants[:, None] - 0.5 * squares).logsumexp(0)

    def plain(self) -> dict[str, Any]:
        """The mixture as lists by name, which ``from_plain`` turns into the same mixture again."""
        found = {name: getattr(self, name).tolist() for name in ("weights", "means", "factors")}
        if self.subspace is not None:
            found["subspace"] = {name: part.tolist() for name, part in self.subspace._asdict().items()}
        return found

    @classmethod
    def from_plain(cls, lists: Mapping[str, Any]) -> "Mixture":
        """The mixture whose parts are these lists; ValueError if they are not those of a mixture."""
        weights, means, factors = _tensors(lists, ("weights", "means", "factors"))
        components, dimensions = len(weights), means.shape[-1]
        shapes = ((components,), (components, dimensions), (components, dimensions, dimensions))
        if not _are_finite((weights, means, factors), shapes):
            raise ValueError("weights, means and factors do not have the shapes of a mixture, or are not finite")
        if (weights < 0).any() or not weights.sum() > 0:
            raise ValueError("weights are not those of a mixture")
        inside = lists.get("subspace")
        return cls(weights, means, factors, None if inside is None else _subspace(inside, dimensions))


def _subspace(lists: Any, axes: int) -> Subspace:
    """The subspace whose parts are these lists; ValueError if it is none of so many axes."""
    found = Subspace(*_tensors(lists if isinstance(lists, Mapping) else {}, Subspace._fields))
    dimensions = found.center.shape[-1] if found.center.dim() else 0
    if not _are_finite(found, ((dimensions,), (axes, dimensions), ())) or not found.noise >= 0:
        raise ValueError("center, axes and noise do not have the shapes of a subspace of the mixture")
    return found


def _tensors(lists: Mapping[str, Any], names: tuple[str, ...]) -> list[Tensor]:
    try:
        return [torch.tensor(lists[name], dtype=torch.double) for name in names]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{', '.join(names[:-1])} and {names[-1]} are not lists of numbers: {error}") from error


def _are_finite(parts: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...]) -> bool:
    return all(part.shape == shape and part.isfinite().all() for part, shape in zip(parts, shapes, strict=True))


# fitting -------------------------------------------------------------------------------------------------------------


def no_mixture(codes: Array) -> str:
    """Why no mixture can be fitted to codes (N, D), or an empty string."""
    if codes.shape[1] <= MOST_DIMENSIONS:
        return ""
    return f"a mixture is fitted to codes of at most {MOST_DIMENSIONS:,} dimensions, and these have {codes.shape[1]:,}"


def fit_mixture(codes: Array, *, components: int = 10, seed: int = 0) -> Mixture:
    """Mixture of ``components`` Gaussians with full covariances, fitted to codes (N, D) (Ghosh et al., 2020).

    Uses the first ``MOST_CODES`` codes, each dimension scaled to unit variance, so that scikit-learn's regularisation
    of 1e-6 affects every model equally. With fewer codes than components, there are as many components as codes.

    Codes of more than ``FULL_DIMENSIONS`` are projected on their leading principal axes (see ``MOST_AXES``). The
    mixture is fitted there; outside is a Gaussian with the rest of the variance, the same in all directions, as in
    probabilistic PCA (Tipping and Bishop, 1999), so that the density is one of whole codes.

    ValueError for fewer than two codes.
    """
    (values,) = checked(codes[:MOST_CODES], least=2)
    values = values.cpu()
    if values.shape[1] <= FULL_DIMENSIONS:
        return Mixture(*_fit(values, values.std(0), components, seed))
    subspace = _leading_axes(values)
    scores = subspace.project(values)[0]
    # One unit for all axes: with a unit for each, the many weak ones would hide groups of codes along the strong ones.
    units = scores.std(0).max().expand(scores.shape[1])
    return Mixture(*_fit(scores, units, components, seed), subspace)


def _leading_axes(values: Tensor) -> Subspace:
    """The principal axes that hold ``SHARE`` of the variance, within the limits, and the variance outside of them."""
    count, dimensions = len(values), values.shape[1]
    center, directions, variances, total = principal_components(
        values.float(), min(MOST_AXES, max(1, count // CODES_PER_AXIS))
    )
    enough = int((variances.cumsum(0) < SHARE * total).sum()) + 1
    axes = directions[: min(enough, max(1, int((variances > 0).sum())))]
    left = max(0.0, total - float(variances[: len(axes)].sum())) / (dimensions - len(axes))
    noise = max(math.sqrt(left), LEAST_NOISE * math.sqrt(total / dimensions))
    axes = torch.linalg.qr(axes.T)[0].T  # orthonormal in double precision
    return Subspace(center.double(), axes.contiguous(), torch.tensor(noise, dtype=torch.double))


def _fit(values: Tensor, units: Tensor, components: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and factors of a mixture with full covariances, fitted to values (N, D) in float64.

    They are measured in ``units`` (D,), as scikit-learn's regularisation and starting values depend on their scale.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mean = values.mean(0)
    scaled = (values - mean) / torch.where(units > 0, units, 1.0)
    mixture = GaussianMixture(min(components, len(values)), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct codes than components
        mixture.fit(scaled.numpy())
    weights, means, covariances = map(torch.from_numpy, (mixture.weights_, mixture.means_, mixture.covariances_))
    return weights, mean + units * means, units[:, None] * torch.linalg.cholesky(covariances)
