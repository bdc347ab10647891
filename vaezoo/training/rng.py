"""Saving and restoring torch's random state."""

import torch
from torch import Tensor


def random_states(device: torch.device) -> list[Tensor]:
    """States of the CPU generator and, if the device is a GPU, of its generator."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def restore(states: list[Tensor], device: torch.device) -> None:
    """Restore states that ``random_states`` returned."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
