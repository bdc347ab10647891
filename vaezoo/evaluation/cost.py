"""What a model costs by its build: parameters, operations, bits of a code. It knows the image API and no timings."""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BITS = 32
"""Of one number of a code, which is stored in single precision."""


def parameters(model: nn.Module) -> int:
    """How many weights a model has, as its run's summary counts them."""
    return sum(parameter.numel() for parameter in model.parameters())


def code_bits(model: nn.Module) -> int:
    """Bits of the code of one image, kept as it is: 32 for each latent dimension.

    What an ideal coder would need for a stochastic code is its rate, kl / ln 2.
    """
    return BITS * int(model.latent_dim)  # type: ignore[arg-type]


PASSES = 3
"""A training step costs about three times the operations of its forward pass."""


def flops_of_step(model: Any, batch_size: int) -> float:
    """Operations of a training step on so many images, by those of one image through ``model.reconstruct``."""
    return float(PASSES * batch_size * flops_per_image(model))


@torch.no_grad()
def flops_per_image(model: nn.Module) -> int:
    """Floating-point operations of one image through encoder and decoder and back to pixels.

    A multiplication and its addition count as two. Matrix products and convolutions count alone, as is usual; a
    training step takes about three times as many.
    """
    tensors = [*model.parameters(), *model.buffers()]
    x = torch.zeros(1, *model.image_shape, device=tensors[0].device)  # type: ignore[misc]
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model.reconstruct(x)  # type: ignore[operator]
    model.train(was_training)
    return int(counter.get_total_flops())
