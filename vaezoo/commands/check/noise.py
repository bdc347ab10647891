"""Constant noise, so that terms of batches of different sizes can be compared."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

NORMAL, UNIFORM, EXPONENTIAL = 0.5, 0.3, 0.7
"""Values of draws from these distributions in standard form."""


class EqualNoise(TorchDispatchMode):
    """Replaces draws from normal, uniform, exponential and Bernoulli distributions by a constant for all elements.

    Covers all ways of drawing in torch: ``randn_like``, ``normal_``, ``torch.distributions``, dropout. Integers and
    permutations are drawn as usual.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        drawn = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags and isinstance(drawn, Tensor):
            _equalise(drawn, func._schema.name.removeprefix("aten::"), args)
        return drawn


def _equalise(drawn: Tensor, name: str, args: tuple[Any, ...]) -> None:
    """Fill the result of torch's operation ``name`` with its constant."""
    own = args[1:] if name.endswith("_") else args  # in place, the first argument is the tensor itself
    if name in ("randn", "randn_like"):
        drawn.fill_(NORMAL)
    elif name in ("rand", "rand_like"):
        drawn.fill_(UNIFORM)
    elif name in ("normal", "normal_"):
        mean, std = (*own, *(0.0, 1.0)[len(own) :])[:2]
        drawn.copy_(torch.as_tensor(mean + NORMAL * std))
    elif name == "uniform_":
        low, high = (*own, *(0.0, 1.0)[len(own) :])[:2]
        drawn.fill_(low + UNIFORM * (high - low))
    elif name == "exponential_":
        drawn.fill_(EXPONENTIAL / (own[0] if own else 1.0))
    elif name in ("bernoulli", "bernoulli_"):
        drawn.copy_(torch.as_tensor(own[-1] if own else 0.5) >= UNIFORM)
