"""Argument checks of the image API, with one-sentence errors.

The image methods of every subclass of ``ImageAPI`` check their arguments when they are called from outside; nested
calls are not checked again. Training, validation and test steps, compiled programs and exports run without checks.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ImageError
from vaezoo.config.shapes import is_table
from vaezoo.nn.interpolation import METHODS

ROUNDING = 1e-5
"""How far pixels may exceed [0, 1], because resizing and interpolation round."""

MIXTURE = "mixture"
"""The prior of ``sample`` that was fitted to training codes."""

_disabled = False


@contextmanager
def unchecked() -> Iterator[None]:
    """Disable the checks of the image API within the block."""
    global _disabled
    before, _disabled = _disabled, True
    try:
        yield
    finally:
        _disabled = before


def is_checking() -> bool:
    """Whether arguments are checked here: outside of ``unchecked`` and of compiled programs."""
    return not (_disabled or torch.compiler.is_compiling())


class ImageAPI:
    """Adds argument checks to the methods in ``CHECKED`` of every subclass; they raise ImageError."""

    image_shape: tuple[int, int, int]
    latent_dim: int
    labels_given: int | None = None
    """Number of labels that are fixed for the rows of a batch; None if there are none."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in CHECKED.keys() & vars(cls).keys():
            setattr(cls, name, _checked(vars(cls)[name], CHECKED[name]))


def _checked(method: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def checking(model: Any, *arguments: Any, **options: Any) -> Any:
        if not is_checking():
            return method(model, *arguments, **options)
        with unchecked():
            return call(model, method, *arguments, **options)

    return checking


# calls with checked arguments ----------------------------------------------------------------------------------------


def _call_with_images(model: Any, method: Callable[..., Any], /, x: Any, **options: Any) -> Any:
    single = _is_single(x, 3)
    _check_images(model, x, method.__name__)
    return _first(method(model, x[None], **options)) if single else method(model, x, **options)


def _call_with_codes(model: Any, method: Callable[..., Any], /, code: Any, **options: Any) -> Any:
    single = _is_single(code, 1)
    _check_codes(model, code, method.__name__)
    return _first(method(model, code[None], **options)) if single else method(model, code, **options)


def _call_with_ends(model: Any, method: Callable[..., Any], /, start: Any, end: Any, **options: Any) -> Any:
    for images in (start, end):
        _check_images(model, images, "interpolate")
    if start.shape != end.shape:
        both = f"{_shape(start)} and {_shape(end)}"
        raise ImageError(f"interpolate needs as many images at its end as at its start, got {both}")
    _check_whole("interpolate", "steps", options.get("steps", 2), 2)
    if options.get("method") not in (None, *METHODS):
        raise ImageError(f"interpolate needs the method {' or '.join(METHODS)}, got {options['method']!r}")
    if not _is_single(start, 3):
        return method(model, start, end, **options)
    return _first(method(model, start[None], end[None], **options))


def _call_with_count(
    model: Any, method: Callable[..., Any], /, count: Any, generator: Any = None, **options: Any
) -> Any:
    _check_whole("sample", "count", count, 1)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ImageError(
            f"sample needs a torch.Generator, got {generator!r}; write torch.Generator().manual_seed({generator})"
        )
    if options.get("prior") not in (None, MIXTURE):
        raise ImageError(f"sample needs prior=None, for the model's own, or {MIXTURE!r}, got {options['prior']!r}")
    if options.get("prior") == MIXTURE and generator is not None and generator.device.type != "cpu":
        raise ImageError(f"sample with prior={MIXTURE!r} needs a generator on the CPU, got one on {generator.device}")
    return method(model, count, generator, **options)


def _call_with_batch(model: Any, method: Callable[..., Any], /, x: Any, *others: Any) -> Any:
    _check_images(model, x, method.__name__)
    return method(model, x, *others)


CHECKED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("encode", "posterior", "reconstruct"), _call_with_images),
    "loss_terms": _call_with_batch,  # and what the encoder sees in it may be corrupted, beyond [0, 1]
    "decode": _call_with_codes,
    "interpolate": _call_with_ends,
    "sample": _call_with_count,
}
"""The checked methods, and for each the function that checks its arguments and calls it."""


# checks --------------------------------------------------------------------------------------------------------------


def _check_images(model: Any, x: Any, name: str) -> None:
    """ImageError unless ``x`` is a float tensor of the model's image shape, on its device, in [0, 1]."""
    x = _tensor(model, x, f"{name} needs images")
    if not x.is_floating_point():
        remedy = ".float()" if x.dtype == torch.bool else ".float() / 255"
        raise ImageError(f"{name} needs images as floats in [0, 1], got {x.dtype}; write images{remedy}")
    if tuple(x.shape) != model.image_shape and (x.dim() != 4 or tuple(x.shape[1:]) != model.image_shape):
        wanted = _either(model.image_shape)
        raise ImageError(f"{name} needs images of shape {wanted}, got {_shape(x)}{_remedy(x, model.image_shape)}")
    _check_rows(model, len(x) if x.dim() == 4 else 1, name, "images")
    _check_pixels(x, name, is_table(model.image_shape))


def _check_rows(model: Any, rows: int, name: str, what: str) -> None:
    """ImageError unless the model has one label for all rows, or one for each."""
    if model.labels_given not in (None, 1, rows):
        raise ImageError(
            f"{name} needs as many {what} as labels were given, or a single label for all, got {rows} {what} and"
            f" {model.labels_given} labels"
        )


def _remedy(x: Tensor, wanted: tuple[int, int, int]) -> str:
    """A closing clause with the likely remedy for a wrong shape; empty if there is none."""
    channels, *size = wanted
    if is_table(wanted) and x.shape[-1:] == wanted[-1:]:
        return f"; write rows.reshape(-1, 1, 1, {wanted[-1]})"
    if list(x.shape[-3:]) == [*size, channels]:
        return ", whose channels come last; write images.movedim(-1, -3)"
    if channels == 1 and x.dim() in (2, 3) and list(x.shape[-2:]) == size:
        return ", which have no channels; write images.unsqueeze(-3)"
    if x.dim() in (3, 4) and x.shape[-3] == channels:
        return f"; resize them to {size[0]}x{size[1]}"
    return ""


def _check_pixels(x: Tensor, name: str, of_table: bool) -> None:
    """ImageError for pixels outside of [0, 1], or values of a table that are not finite. Synchronises once."""
    if x.numel() == 0 or x.device.type == "meta" or type(x).__name__ == "FakeTensor":
        return
    least, most = torch.stack(x.detach().aminmax()).tolist()
    if of_table and math.isfinite(least) and math.isfinite(most):
        return
    if of_table:
        raise ImageError(f"{name} needs finite numbers, got some that are not; leave those rows out")
    if least >= -ROUNDING and most <= 1 + ROUNDING:
        return
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ImageError(f"{name} needs pixels in [0, 1], got some that are not finite; leave those images out")
    remedy = "divide by 255" if least >= 0 and 1.5 < most <= 255 else "undo their normalisation, or clamp them"
    raise ImageError(f"{name} needs pixels in [0, 1], got values from {least:.3g} to {most:.3g}; {remedy}")


def _check_codes(model: Any, code: Any, name: str) -> None:
    """ImageError unless ``code`` is a float tensor of the model's latent dimensions, on its device."""
    code = _tensor(model, code, f"{name} needs codes")
    if not code.is_floating_point():
        raise ImageError(f"{name} needs codes as floats, got {code.dtype}; write code.float()")
    if code.dim() not in (1, 2) or code.shape[-1] != model.latent_dim:
        raise ImageError(f"{name} needs codes of shape {_either((model.latent_dim,))}, got {_shape(code)}")
    _check_rows(model, len(code) if code.dim() == 2 else 1, name, "codes")


def _tensor(model: Any, value: Any, wants: str) -> Tensor:
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        remedy = "; write torch.from_numpy(array)" if kind == "numpy.ndarray" else ""
        raise ImageError(f"{wants} as a torch.Tensor, got {kind}{remedy}")
    if value.device.type != model.device.type:
        raise ImageError(f"{wants} on {model.device}, where the model is, got {value.device}; write .to(model.device)")
    return value


def _check_whole(name: str, argument: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ImageError(f"{name} needs {argument} as a whole number from {least} up, got {value!r}")


def _is_single(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.dim() == dimensions


def _first(found: Any) -> Any:
    """Remove the batch dimension from results for one image; a posterior that is not a tuple of tensors and has no
    ``map`` keeps it."""
    if isinstance(found, Tensor):
        return found[0]
    if hasattr(found, "map"):
        return found.map(_first)
    parts = isinstance(found, tuple) and all(isinstance(part, Tensor) for part in found)
    return type(found)(*(part[0] for part in found)) if parts else found


def _shape(value: Tensor) -> str:
    return str(tuple(value.shape))


def _either(shape: tuple[int, ...]) -> str:
    """The shapes of one item and of a batch as text: ``(1, 28, 28) or (B, 1, 28, 28)``."""
    return f"{shape} or (B, {', '.join(map(str, shape))})"
