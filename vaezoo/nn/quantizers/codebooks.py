"""Vectors and codebooks: nearest codes, gradient estimators of rounding, and k-means."""

import warnings

import torch
from torch import Tensor

MOST_DISTANCES = 2**26
"""Distances computed at once: 256 MiB."""


VECTORS_PER_CODE = 40
"""Vectors that k-means uses for each code; more hardly move the centres."""


NEGLIGIBLE = 1e-4
"""Below this norm, a float32 vector has no reliable direction after a subtraction."""


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the code at the smallest Euclidean distance, the lowest of several: (N, c), (K, c) -> long (N,)."""
    squares = codebook.square().sum(1)
    rows = max(1, MOST_DISTANCES // len(codebook))
    if torch.compiler.is_compiling() or len(vectors) <= rows:  # a comparison would fix the size of an exported batch
        return _nearest(vectors, codebook, squares)
    return torch.cat([_nearest(part, codebook, squares) for part in vectors.split(rows)])


def _nearest(vectors: Tensor, codebook: Tensor, squares: Tensor) -> Tensor:
    return torch.addmm(squares, vectors, codebook.T, alpha=-2).argmin(1)  # |e|^2 - 2 z e is enough for a comparison


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """Exactly ``codes``, with the gradient of ``z``: (..., c) twice -> (..., c) (Bengio et al., 2013)."""
    return codes.detach() + (z - z.detach())


def rotation(z: Tensor, codes: Tensor) -> Tensor:
    """Exactly ``codes``, with the gradient of ``z`` rotated and scaled onto them: (..., c) twice -> (..., c).

    The rotation trick of Fifty et al. (2024): codes = (|codes| / |z|) R z with constant R. Straight-through where the
    rotation is not defined: for vectors near zero, and opposite ones.
    """
    source, length = _direction(z.detach())
    target, new_length = _direction(codes.detach())
    middle, spread = _direction(source + target)
    turned = z - 2 * _dot(z, middle) * middle + 2 * _dot(z, source) * target
    defined = (length > NEGLIGIBLE) & (new_length > NEGLIGIBLE) & (spread > NEGLIGIBLE)
    moved = torch.where(defined, new_length / length * turned, z)
    return codes.detach() + (moved - moved.detach())


def _direction(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (..., c) and norms (..., 1), which are at least 1e-6."""
    norm = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return vectors / norm, norm


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(-1, keepdim=True)


ESTIMATORS = {"straight_through": straight_through, "rotation": rotation}


def k_means(vectors: Tensor, size: int) -> Tensor:
    """Centres of vectors after at most 10 iterations, always the same ones: (N, c) -> (size, c) in float32.

    Fewer distinct vectors than ``size`` are all taken, and repeated with small noise. The global random state is
    neither read nor changed.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    vectors = vectors[:: max(1, len(vectors) // (VECTORS_PER_CODE * size))].detach().float().cpu()
    distinct = vectors.unique(dim=0)
    if len(distinct) <= size:
        return _repeated(distinct, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly equal vectors
        found = KMeans(size, n_init=1, max_iter=10, random_state=0).fit(vectors.numpy())
    return torch.from_numpy(found.cluster_centers_).to(vectors)


def _repeated(distinct: Tensor, size: int) -> Tensor:
    """The distinct vectors, then copies of them with noise of a thousandth of their standard deviation."""
    copies = distinct[torch.arange(size - len(distinct)) % len(distinct)]
    spread = distinct.std(0, correction=0).clamp(min=1e-3)
    noise = torch.randn(copies.shape, generator=torch.Generator().manual_seed(0))
    return torch.cat([distinct, copies + 1e-3 * spread * noise])
