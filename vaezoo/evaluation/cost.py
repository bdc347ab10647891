"""Static costs of a model: parameters, FLOPs and bits per code."""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Number of parameters of a model, without critics, which only its training needs."""
    critics = [model.get_submodule(name) for name in getattr(model, "critics", ())]
    theirs = sum(parameter.numel() for critic in critics for parameter in critic.parameters())
    return sum(parameter.numel() for parameter in model.parameters()) - theirs


PASSES = 3
"""FLOPs of a training step relative to its forward pass, approximately."""


def flops_of_step(model: Any, batch_size: int) -> float:
    """Approximate FLOPs of a training step, from those of ``model.reconstruct``."""
    return float(PASSES * batch_size * flops_per_image(model))


@torch.no_grad()
def flops_per_image(model: nn.Module) -> int:
    """FLOPs of one image through encoder and decoder.

    A multiply-add counts as two. Only matrix products and convolutions are counted, as usual.
    """
    tensors = [*model.parameters(), *model.buffers()]
    x = torch.zeros(1, *model.image_shape, device=tensors[0].device)  # type: ignore[misc]
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter:
        (model.given(0) if getattr(model, "wants_labels", False) else model).reconstruct(x)  # type: ignore[operator]
    model.train(was_training)
    return int(counter.get_total_flops())
