"""Random states of torch, taken and put back. They know tensors alone."""

import torch
from torch import Tensor


def random_states(device: torch.device) -> list[Tensor]:
    """State of the CPU's generator and of the device's, if that is a GPU."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def restore(states: list[Tensor], device: torch.device) -> None:
    """Put back what ``random_states`` gave."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)
