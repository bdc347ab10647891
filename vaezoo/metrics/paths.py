"""How evenly a path runs, and which pairs of images to join. It knows tensors alone.

A path is (B, T, ...): images (B, T, C, H, W) or features (B, T, F) of T points, steps in the L2 norm. A path that stays
where it is, up to rounding, counts as even: all 1. A decoder that ignores its code therefore looks
perfect, and these numbers mean something beside a reconstruction error only.
"""

import torch
from torch import Tensor


def step_ratio(path: Tensor) -> Tensor:
    """Largest step over the mean step: 1 for an even pace, T - 1 for a single jump: (B, T, ...) -> (B,)."""
    return path_speed(path).amax(1)


def path_speed(path: Tensor) -> Tensor:
    """Length of each step over the mean step of its path, whose mean is 1: (B, T, ...) -> (B, T - 1)."""
    steps = step_lengths(path)
    mean = steps.mean(1, keepdim=True)
    return torch.where(_moves(path)[:, None], steps / mean, torch.ones_like(steps))


def step_lengths(path: Tensor) -> Tensor:
    """L2 distance of each point from the one before it: (B, T, ...) -> (B, T - 1), float64."""
    if path.ndim < 3 or path.shape[1] < 2:
        raise ValueError(f"a path is (B, T, ...) with T of at least 2, got {tuple(path.shape)}")
    return path.double().flatten(2).diff(dim=1).norm(dim=2)


def _moves(path: Tensor) -> Tensor:
    """Whether a path is longer than rounding could make it: (B, T, ...) -> (B,)."""
    largest = path.double().flatten(2).norm(dim=2).amax(1)
    rounding = torch.finfo(path.dtype).eps * path.shape[1] * largest
    return step_lengths(path).sum(1) > rounding


def choose_pairs(labels: Tensor, count: int, *, seed: int | None = None) -> list[tuple[int, int]]:
    """Up to ``count`` pairs of positions in ``labels`` (B,) or (B, F), of different labels as far as there are such.

    No position is used twice. They are taken in their order, or in one that ``seed`` shuffles.
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
