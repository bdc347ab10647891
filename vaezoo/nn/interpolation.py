"""Linear and spherical interpolation between codes."""

import torch
from torch import Tensor


def linear(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Equidistant codes on the straight line, both ends included: (B, D) twice -> (B, steps, D)."""
    t = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[None, :, None]
    return torch.lerp(start[:, None], end[:, None], t)


def spherical(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Codes at equal angles on the arc between two codes (White, 2016), both ends: (B, D) twice -> (B, steps, D).

    In high dimensions a Gaussian's mass lies near a sphere, which the straight line leaves and the arc does not.
    (Anti)parallel codes, as always in one dimension, have no unique arc and get the straight line.
    """
    t = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[None, :, None]
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None, None]
    sine = torch.sin(angle)
    arc = (torch.sin((1 - t) * angle) * start[:, None] + torch.sin(t * angle) * end[:, None]) / sine
    return torch.where(sine > 1e-3, arc, linear(start, end, steps))


METHODS = {"linear": linear, "spherical": spherical}
