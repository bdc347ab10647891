"""The layers of a model's encoder and decoder, for comparing architectures."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def layers(model: Any) -> tuple[str, ...]:
    """Descriptions of the modules that encode and decode one image, in execution order, with their shapes.

    The model's class and settings are not included, so a subclass differs only if it has its own encoder or decoder.
    The layers next to the code omit its size, because models with the same network may need one or several outputs per
    latent dimension. Layers that see a label, the family of posteriors, and quantisers are omitted for the same reason.
    """
    x = torch.zeros(1, *model.image_shape, device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    seen = model.given(0)
    with torch.random.fork_rng(devices=[]):
        encoder, code = _trace(model, seen.encode, x)
        decoder, _ = _trace(model, seen.decode, code)
    model.train(was_training)
    _join(encoder, -1, "to the code")
    _join(decoder, 0, "from the code")
    return tuple(text for text, _ in (*encoder, *decoder))


def _trace(model: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor) -> tuple[list[tuple[str, nn.Module]], Tensor]:
    """The modules that ``call`` executes with their descriptions, and its result."""
    ran: list[tuple[str, nn.Module]] = []
    own = [
        module
        for name, module in model.named_modules()
        if module is not model
        and _does_something(module)
        and not name.endswith(".of_label")
        and not name.startswith(("posterior_model", "quantizer"))
    ]
    with ExitStack() as stack:
        for module in own:
            handle = module.register_forward_hook(lambda module, *_: ran.append((_describe(module), module)))
            stack.callback(handle.remove)
        result = call(x)
    return ran, result


def _does_something(module: nn.Module) -> bool:
    """True for a module without children or with parameters of its own; False for mere containers."""
    return not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))


def _describe(module: nn.Module) -> str:
    """Class and settings, such as ``Linear(256, 400)``; for classes outside torch, also the shapes of their weights."""
    kind = type(module)
    settings = re.sub(r"(in|out)_features=|, bias=True", "", module.extra_repr())
    if kind.__module__.startswith("torch."):
        return f"{kind.__name__}({settings})"
    shapes = ["×".join(map(str, weight.shape)) for weight in module.parameters(recurse=False)]
    return f"{kind.__module__}.{kind.__name__}({', '.join(part for part in (settings, *shapes) if part)})"


def _join(ran: list[tuple[str, nn.Module]], at: int, role: str) -> None:
    """Replace the description of the layer next to the code by its role."""
    weighted = [index for index, (_, module) in enumerate(ran) if any(True for _ in module.parameters(recurse=False))]
    if weighted:
        module = ran[weighted[at]][1]
        ran[weighted[at]] = (f"{type(module).__name__} {role}", module)
