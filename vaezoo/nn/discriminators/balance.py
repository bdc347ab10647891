"""The weight of an adversarial loss that follows from gradients of the decoder's last layer."""

import torch
from torch import Tensor
from torch.nn import Parameter

from vaezoo.distributed import batch_shares

EPSILON = 1e-4
"""Keeps the ratio finite where the adversarial gradient vanishes; in units of the adversarial loss."""

LARGEST = 1e4
"""Largest ratio for each pixel: the reconstruction term is a sum over pixels."""


def largest_ratio(pixels: int) -> float:
    """The largest ratio for images of so many pixels, channels included."""
    return LARGEST * pixels


def gradient_ratio(of_pixels: Tensor, adversarial: Tensor, last: Parameter, pixels: int) -> Tensor:
    """|d mean reconstruction/d W| / (|d mean adversarial/d W| + 1e-4), at most 1e4 a pixel, detached: (B,) twice -> ().

    W is the weight of the decoder's last layer. Esser et al. (2021), equation 7, whose loss is a mean over pixels. On
    several devices, the gradients are those of the whole batch: it is a ratio of norms of means.
    """
    each = [torch.autograd.grad(term.sum(), last, retain_graph=True)[0] for term in (of_pixels, adversarial)]
    whole = batch_shares.sum_of_all(torch.stack(each).float()) / batch_shares.size_of_whole(len(of_pixels))
    reconstruction, deception = whole.flatten(1).norm(dim=1)
    return (reconstruction / (deception + EPSILON)).clamp(max=largest_ratio(pixels))
