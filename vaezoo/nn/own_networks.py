"""Encoders and decoders of one's own, from a function that ``model.network`` names as ``package.module:function``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vaezoo.config import own_code
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_arguments
from vaezoo.nn.networks import ImageShape

KEY = "model.network"
PASSED = ("image_shape", "latent_dim", "channels", "features")
"""Arguments of the function that the program passes."""


def make_own_networks(
    name: str, image_shape: ImageShape, size: int, features: int, options: Mapping[str, Any] | None, *, spatial: bool
) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
    """Encoder, decoder and the shape of the code, from the function called ``name``, with the weights that it gives.

    It is called with the image shape (C, H, W), the ``size`` of the code, that is its dimensions D or, if ``spatial``,
    its channels, the number F of encoder outputs, and ``options``. The encoder maps (B, C, H, W) to (B, F), or to
    (B, F, h, w), from which (h, w) are taken; the decoder maps (B, D) or (B, channels, h, w) to (B, C, H, W).

    ConfigError for other shapes, found by a pass of two black images, and for options that it does not take.
    """
    make = own_code.located(name, KEY)
    check_arguments(make, dict(options or {}), key="model.network_options", extra=PASSED)
    made = make(image_shape, size, features, **(options or {}))
    if not (isinstance(made, tuple) and len(made) == 2 and all(isinstance(part, nn.Module) for part in made)):
        raise ConfigError(f"{KEY}={name} must return two nn.Modules, encoder and decoder, got {type(made).__name__}")
    encoder, decoder = made
    found = _shape_of(encoder, torch.zeros(2, *image_shape, device=_device(encoder)))
    wanted = (2, features, *found[2:4]) if spatial else (2, features)
    if found != wanted or (spatial and len(found) != 4):
        positions = ", h, w" if spatial else ""
        raise ConfigError(
            f"{KEY}={name} must give an encoder with outputs of shape (B, {features}{positions}), got"
            f" {_with_batch(found)}"
        )
    code_shape = (size, *found[2:])
    decoded = _shape_of(decoder, torch.zeros(2, *code_shape, device=_device(decoder)))
    if decoded != (2, *image_shape):
        raise ConfigError(
            f"{KEY}={name} must give a decoder of codes (B, {', '.join(map(str, code_shape))}) with outputs of shape"
            f" {_with_batch((2, *image_shape))}, got {_with_batch(decoded)}"
        )
    return encoder, decoder, code_shape


def _device(network: nn.Module) -> torch.device:
    """The device of a network; torch's default one for a network without parameters."""
    return next((parameter.device for parameter in network.parameters()), torch.empty(0).device)


@torch.no_grad()
def _shape_of(network: nn.Module, inputs: Tensor) -> tuple[int, ...]:
    """The shape of a network's outputs, in evaluation mode, so that no statistics change."""
    training = network.training
    try:
        outputs = network.eval()(inputs)
    finally:
        network.train(training)
    return tuple(outputs.shape) if isinstance(outputs, Tensor) else ()


def _with_batch(shape: tuple[int, ...]) -> str:
    return f"(B, {', '.join(map(str, shape[1:]))})" if shape else "no tensor"
