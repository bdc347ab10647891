"""Squared Frobenius norms of Jacobians of networks, differentiable, also where gradients are disabled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vaezoo.distributed import batch_shares

MOST_EXACT = 32
"""Outputs up to which the norm is computed exactly, by as many backward passes."""


def norm_of_outputs(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs (B, D) of images (B, ...), and |d output / d x|_F^2 of each image (B,), for few outputs.

    Exact for D <= ``MOST_EXACT``; beyond, |v' J|^2 with random signs v (B, D), which is unbiased and takes one backward
    pass. The outputs of an image must not depend on the other images.
    """
    pulled: Any = torch.func.vjp(function, x)
    outputs, pull_back = pulled
    if outputs.shape[1] > MOST_EXACT:
        (rows,) = pull_back(torch.where(batch_shares.normal_like(outputs) < 0, -1.0, 1.0).to(outputs))
        return outputs, rows.flatten(1).square().sum(1)
    units = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    (rows,) = torch.func.vmap(pull_back)(units[:, None].expand(-1, len(x), -1))
    return outputs, rows.flatten(2).square().sum((0, 2))


def norm_of_inputs(function: Callable[[Tensor], Tensor], code: Tensor) -> Tensor:
    """An unbiased estimate of |d output / d code|_F^2 of each code (B, D), for many outputs (B, ...): (B,).

    |v' J|^2 with v ~ N(0, I) of the shape of the outputs, in one backward pass.
    """
    pulled: Any = torch.func.vjp(function, code)
    outputs, pull_back = pulled
    (rows,) = pull_back(batch_shares.normal_like(outputs))
    squares: Tensor = rows.square().sum(1)
    return squares
