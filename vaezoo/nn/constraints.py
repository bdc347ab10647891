"""Constraints on the weights of networks, which keep codes from shrinking while a decoder grows, and their size."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def layers(network: nn.Module) -> list[nn.Module]:
    """The layers with weight matrices or kernels, in order."""
    return [module for module in network.modules() if isinstance(module, LAYERS)]


class UnitColumns(nn.Module):
    """Weights whose part for each input, such as a column of a matrix, has norm 1; ``inputs`` is their dimension."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, weight: Tensor) -> Tensor:
        others = [dimension for dimension in range(weight.dim()) if dimension != self.inputs]
        return weight * weight.square().sum(others, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny).rsqrt()

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def unit_columns(network: nn.Module) -> None:
    """Constrain what each layer makes of each of its inputs to norm 1.

    With the first layer only, later ones would grow instead: ReLU networks pass scales on.
    """
    for layer in layers(network):
        inputs = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
        parametrize.register_parametrization(layer, "weight", UnitColumns(inputs))


def spectral_norms(network: nn.Module) -> None:
    """Divide the weights of each layer by their spectral norm, by one power iteration in each training step."""
    for layer in layers(network):
        parametrizations.spectral_norm(layer)


def squared_weights(network: nn.Module) -> Tensor:
    """Sum of the squared weights of all layers, without biases: ()."""
    return torch.stack([layer.weight.square().sum() for layer in layers(network)]).sum()  # type: ignore[operator]
