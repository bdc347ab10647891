"""Constraints hold for every decoder, and survive copies and state dicts."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from vaezoo.config.choices import NETWORKS
from vaezoo.nn.constraints import layers, spectral_norms, squared_weights, unit_columns
from vaezoo.nn.networks import make_networks, make_spatial_networks

SHAPE = (1, 8, 8)


def decoders() -> list[nn.Module]:
    torch.manual_seed(0)  # made when tests are collected, so not by a fixture; nearly equal norms converge slowly
    flat = [make_networks(name, SHAPE, 3, 3)[1] for name in NETWORKS]
    return [*flat, *(make_spatial_networks(name, SHAPE, 3, 3)[1] for name in NETWORKS[1:])]


@pytest.mark.parametrize("decoder", decoders(), ids=lambda each: type(each).__name__)
def test_what_a_layer_makes_of_each_input_has_norm_1(decoder: nn.Module) -> None:
    unit_columns(decoder)
    for layer in layers(decoder):
        size = layer.weight.shape[0 if isinstance(layer, nn.ConvTranspose2d) else 1]
        one_each = torch.eye(size)[:, :, None, None].repeat(1, 1, 9, 9) if layer.weight.dim() == 4 else torch.eye(size)
        if layer.weight.dim() == 4:
            one_each[:, :, :4], one_each[:, :, 5:] = 0, 0
            one_each[..., :4], one_each[..., 5:] = 0, 0
        norms = (layer(one_each) - layer(torch.zeros_like(one_each))).flatten(1).square().sum(1)
        if getattr(layer, "stride", (1, 1)) == (1, 1) or isinstance(layer, nn.ConvTranspose2d):
            torch.testing.assert_close(norms, torch.ones(size), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decoder", decoders(), ids=lambda each: type(each).__name__)
def test_layers_have_spectral_norm_1(decoder: nn.Module) -> None:
    spectral_norms(decoder)
    for layer in layers(decoder):
        for _ in range(500):
            weight = layer.weight  # each use in training is one more iteration
        matrix = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
        assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("constrain", [unit_columns, spectral_norms])
def test_a_constrained_decoder_is_copied_and_restored(constrain: object) -> None:
    assert callable(constrain)
    one, other = (make_networks("mlp", SHAPE, 3, 3)[1] for _ in range(2))
    constrain(one), constrain(other)
    other.load_state_dict(one.state_dict())
    code = torch.randn(2, 3)
    found = one.eval()(code)
    assert torch.equal(other.eval()(code), found)
    assert torch.equal(deepcopy(one)(code), found)


def test_squared_weights_are_those_of_all_layers_without_biases() -> None:
    decoder = make_networks("conv", SHAPE, 3, 3)[1]
    weights = [value for name, value in decoder.named_parameters() if name.endswith("weight")]
    torch.testing.assert_close(squared_weights(decoder), torch.stack([each.square().sum() for each in weights]).sum())
