"""Critics: networks trained against a model. ``call_frozen`` keeps the model's losses out of the critic's gradients."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above

SLOPE = 0.2
"""Slope of the leaky ReLU for negative inputs."""


def call_frozen(module: nn.Module, *args: Any) -> Any:
    """The output of ``module``, differentiable with respect to ``args`` but not to its parameters.

    The values are those of ``module(*args)``. Flags of parameters do not change, so that it can be compiled.
    """
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return functional_call(module, constants, args)


def judge(critic: nn.Module, inputs: Tensor, *, frozen: bool = False) -> Tensor:
    """The critic's logits in the precision of the inputs, whatever its own; ``frozen`` as in ``call_frozen``."""
    own = inputs.to(next(critic.parameters()).dtype)
    logits: Tensor = call_frozen(critic, own) if frozen else critic(own)
    return logits.to(inputs.dtype)


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient is ``factor`` times as large; any shape."""
    scaled = factor * values
    return scaled - scaled.detach() + values.detach()


def mlp_critic(inputs: int, widths: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with leaky ReLUs between them: (B, inputs) -> (B, outputs)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(SLOPE)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def checked_settings(lr: float, betas: Sequence[float], key: str) -> dict[str, Any]:
    """The settings of a critic's optimiser, which are Adam's, as plain values; ConfigError if they are out of range.

    ``key`` is that of its options in the config.
    """
    above(lr, 0, f"{key}.lr")
    if len(betas) != 2 or not all(0 <= decay < 1 for decay in betas):
        raise ConfigError(f"{key}.betas must be two numbers from 0 to below 1, got {list(betas)}")
    return {"lr": float(lr), "betas": [float(decay) for decay in betas]}


def density_ratio(logits: Tensor) -> Tensor:
    """Estimated log density ratio of two classes, log p(0) - log p(1), in nats: (B, 2) -> (B,)."""
    return logits[:, 0] - logits[:, 1]
