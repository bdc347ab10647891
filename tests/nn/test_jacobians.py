"""Norms of Jacobians are those of the networks, exactly or on average."""

import math
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zoo_vectors import vector
from vaezoo.nn.jacobians import MOST_EXACT, norm_of_inputs, norm_of_outputs
from vaezoo.nn.networks import make_networks

DRAWS = 20_000


def brute_force(function: Any, at: Tensor) -> Tensor:
    """|J|_F^2 of each row by the full Jacobian."""
    return torch.stack(
        [torch.autograd.functional.jacobian(lambda one: function(one[None])[0], row).square().sum() for row in at]
    )


def mean_of(estimate: Any, at: Tensor) -> tuple[float, float]:
    """The mean estimate of the same row over many draws, and four standard errors."""
    found = estimate(at.expand(DRAWS, *at.shape[1:]))
    return found.mean().item(), 4 * found.std().item() / math.sqrt(DRAWS)


def test_the_norm_is_that_of_one_sigmoid_layer() -> None:
    given, value = vector("contractive_norm")
    outputs, norm = norm_of_outputs(lambda x: torch.sigmoid(x @ given["W"].T + given["b"]), given["x"])
    torch.testing.assert_close(norm, torch.tensor(value, dtype=torch.double), rtol=1e-10, atol=0)
    torch.testing.assert_close(outputs, torch.sigmoid(given["x"] @ given["W"].T + given["b"]))


def test_the_norm_of_a_linear_map_is_that_of_its_matrix() -> None:
    weight = torch.randn(3, 7, dtype=torch.double)
    _, norm = norm_of_outputs(lambda x: x @ weight.T, torch.randn(5, 7, dtype=torch.double))
    torch.testing.assert_close(norm, weight.square().sum().expand(5))


def test_the_norm_of_a_decoder_is_right_on_average() -> None:
    given, value = vector("rae_gradient_penalty")

    def decode(code: Tensor) -> Tensor:
        return torch.sigmoid(torch.tanh(code @ given["U"].T) @ given["V"].T)

    for row, expected in zip(given["z"], value["jacobian_norm"], strict=True):
        found, error = mean_of(lambda codes: norm_of_inputs(decode, codes), row[None])
        assert found == pytest.approx(expected, abs=error)
    exact = brute_force(decode, given["z"])
    torch.testing.assert_close(exact, torch.tensor(value["jacobian_norm"], dtype=torch.double))


@pytest.mark.parametrize("outputs", [MOST_EXACT, MOST_EXACT + 1])
def test_many_outputs_are_estimated_without_bias(outputs: int) -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs)).double()
    at = torch.randn(1, 4, dtype=torch.double)
    found, error = mean_of(lambda x: norm_of_outputs(network, x)[1], at)
    assert found == pytest.approx(brute_force(network, at).item(), abs=max(error, 1e-9))
    assert (error < 1e-9) == (outputs == MOST_EXACT)


@pytest.mark.parametrize("name", ["mlp", "conv", "resnet"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_norms_are_those_of_every_network_also_without_gradients(
    name: str, mode: type[AbstractContextManager[None]]
) -> None:
    encoder, decoder = make_networks(name, (1, 8, 8), 2, 2)
    x = torch.rand(3, 1, 8, 8)
    expected = brute_force(encoder, x)
    with mode():
        code, norm = norm_of_outputs(encoder, x)
        of_decoder = norm_of_inputs(decoder, code)
    torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-6)
    assert norm.requires_grad == of_decoder.requires_grad == (mode is torch.enable_grad)


def test_gradients_are_those_of_the_penalty() -> None:
    """Against central differences, in the weights of the network."""
    network, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), torch.randn(2, 3).double()
    names = [name for name, _ in network.named_parameters()]

    def norm(*weights: Tensor) -> Tensor:
        call = dict(zip(names, weights, strict=True))
        return norm_of_outputs(lambda at: torch.func.functional_call(network, call, at), x)[1]

    def estimate(*weights: Tensor) -> Tensor:
        torch.manual_seed(0)
        call = dict(zip(names, weights, strict=True))
        return norm_of_inputs(lambda at: torch.func.functional_call(network, call, at), x)

    assert torch.autograd.gradcheck(norm, tuple(network.parameters()))
    assert torch.autograd.gradcheck(estimate, tuple(network.parameters()))
