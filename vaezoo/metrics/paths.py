"""Evenness of interpolation paths, and the choice of image pairs to interpolate.

A path is (B, T, ...): T images (B, T, C, H, W) or features (B, T, F); steps are L2 distances. All scores of a constant
path (up to rounding) are 1, so a decoder that ignores its code looks perfect: read them together with a reconstruction
error.
"""

import torch
from torch import Tensor


def step_ratio(path: Tensor) -> Tensor:
    """Largest step over mean step, from 1 (even) to T - 1 (a single jump): (B, T, ...) -> (B,)."""
    return path_speed(path).amax(1)


def path_speed(path: Tensor) -> Tensor:
    """Each step divided by the mean step of its path: (B, T, ...) -> (B, T - 1)."""
    steps = step_lengths(path)
    mean = steps.mean(1, keepdim=True)
    return torch.where(_moves(path)[:, None], steps / mean, torch.ones_like(steps))


def step_lengths(path: Tensor) -> Tensor:
    """L2 distances of consecutive points: (B, T, ...) -> (B, T - 1), float64. ValueError for fewer than two points."""
    if path.ndim < 3 or path.shape[1] < 2:
        raise ValueError(f"a path is (B, T, ...) with T of at least 2, got {tuple(path.shape)}")
    return path.double().flatten(2).diff(dim=1).norm(dim=2)


def _moves(path: Tensor) -> Tensor:
    """Whether a path is longer than its rounding error: (B, T, ...) -> (B,)."""
    largest = path.double().flatten(2).norm(dim=2).amax(1)
    rounding = torch.finfo(path.dtype).eps * path.shape[1] * largest
    return step_lengths(path).sum(1) > rounding


def choose_pairs(labels: Tensor, count: int, *, seed: int | None = None) -> list[tuple[int, int]]:
    """Up to ``count`` pairs of indices into ``labels`` (B,) or (B, F), with different labels where possible.

    No index is used twice. Indices are taken in order, or shuffled by ``seed``.
    """
    left = list(range(len(labels)))
    if seed is not None:
        left = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    pairs: list[tuple[int, int]] = []
    while len(left) > 1 and len(pairs) < count:
        first = left.pop(0)
        different = (other for other in left if not torch.equal(labels[first], labels[other]))
        second = next(different, left[0])
        left.remove(second)
        pairs.append((first, second))
    return pairs
