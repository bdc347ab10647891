"""Losses through a frozen critic reach its input only, and everything else is as if it were not frozen."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vaezoo.nn.critics import call_frozen, density_ratio, mlp_critic


def norms_too() -> nn.Module:
    """A critic with buffers and a parametrised weight."""
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.utils.parametrizations.spectral_norm(nn.Linear(8, 2)))


@pytest.mark.parametrize("make", [lambda: mlp_critic(3, [8, 8], 2), norms_too])
def test_a_frozen_call_differs_only_in_the_gradients_of_parameters(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(1)
    plain = make()
    frozen = make()
    frozen.load_state_dict(plain.state_dict())
    x = torch.randn(5, 3)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [plain(inputs[0]), call_frozen(frozen, inputs[1])]
    for output in outputs:
        output.square().sum().backward()
    assert torch.equal(*outputs)
    assert torch.equal(*[given.grad for given in inputs if given.grad is not None])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in plain.parameters())
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, frozen.get_buffer(name)), name


def test_frozen_and_live_calls_are_apart_in_one_compiled_graph() -> None:
    critic, encoder = mlp_critic(3, [8], 2), nn.Linear(4, 3)

    def loss(x: torch.Tensor) -> torch.Tensor:
        code = encoder(x)
        return density_ratio(call_frozen(critic, code)).mean() + critic(code.detach()).square().mean()

    gradients = []
    x = torch.randn(5, 4)
    for step in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        critic.zero_grad()
        encoder.zero_grad()
        step(x).backward()
        gradients.append([p.grad.clone() for p in (*critic.parameters(), *encoder.parameters()) if p.grad is not None])
    assert len(gradients[0]) == 6
    torch.testing.assert_close(gradients[1], gradients[0])


def test_an_mlp_critic_has_a_leaky_relu_after_each_hidden_layer() -> None:
    critic = mlp_critic(10, [1000] * 6, 2)
    assert sum(parameter.numel() for parameter in critic.parameters()) == 5_018_002  # of FactorVAE's paper
    assert [layer.negative_slope for layer in critic if isinstance(layer, nn.LeakyReLU)] == [0.2] * 6
    linear = mlp_critic(2, [], 1)
    assert linear(torch.zeros(4, 2)).shape == (4, 1)
    assert len(linear) == 1
