"""Corruption of the images that an encoder sees in training (Vincent et al., 2008)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from vaezoo.config.choices import CORRUPTIONS
from vaezoo.config.shapes import refuse_table
from vaezoo.config.validation import at_least, create, within
from vaezoo.distributed import batch_shares

OPTIONS = "model.corruption_options"


class Corruption:
    """Random change of images, drawn by the global generator for the whole batch; without any noise, nothing is drawn.

    Called with images (B, C, H, W), it returns corrupted ones of the same shape, whose pixels may leave [0, 1].
    """

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def describe(self) -> str:
        """What the encoder sees, as text."""
        raise NotImplementedError


class GaussianNoise(Corruption):
    """Adds N(0, sigma^2) to each pixel, without clamping, which would change what is best to reconstruct."""

    def __init__(self, *, sigma: float = 0.3) -> None:
        at_least(sigma, 0, f"{OPTIONS}.sigma")
        self.sigma = sigma

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.sigma * batch_shares.normal_like(x) if self.sigma else x

    def describe(self) -> str:
        return f"x + N(0, {self.sigma:g}^2)"


class Masking(Corruption):
    """Sets each pixel of each channel to 0 with the probability ``share``."""

    def __init__(self, *, share: float = 0.25) -> None:
        within(share, 0, 1, f"{OPTIONS}.share")
        self.share = share

    def __call__(self, x: Tensor) -> Tensor:
        return x.masked_fill(_uniform_like(x) < self.share, 0) if self.share else x

    def describe(self) -> str:
        return f"x with {self.share:.3g} of the pixels at 0"


class SaltAndPepper(Corruption):
    """Sets each pixel of each channel to 0 or 1, both equally likely, with the probability ``share``."""

    def __init__(self, *, share: float = 0.25) -> None:
        within(share, 0, 1, f"{OPTIONS}.share")
        self.share = share

    def __call__(self, x: Tensor) -> Tensor:
        if not self.share:
            return x
        drawn = _uniform_like(x)
        return x.masked_fill(drawn < self.share, 1).masked_fill(drawn < self.share / 2, 0)

    def describe(self) -> str:
        return f"x with {self.share:.3g} of the pixels at 0 or 1"


def _uniform_like(x: Tensor) -> Tensor:
    """Uniform noise in [0, 1) of the shape of ``x``: this share's rows of the whole batch's noise."""
    share = batch_shares.current()
    if share is None:
        return x.new_empty(x.shape).uniform_()
    return share.rows(x.new_empty(share.total, *x.shape[1:]).uniform_(), len(x))


_ALL: tuple[Any, ...] = (GaussianNoise, Masking, SaltAndPepper)
_CLASSES: dict[str, Any] = dict(zip(CORRUPTIONS, _ALL, strict=True))


def make_corruption(
    name: str, options: Mapping[str, Any] | None = None, *, image_shape: Sequence[int] = ()
) -> Corruption:
    """The corruption called ``name`` of data of that shape; ConfigError for an unknown name or option."""
    if name == "salt_pepper":
        refuse_table(
            image_shape, "model.corruption=salt_pepper", "choose gaussian, or masking, which sets values to their mean"
        )
    return create("model.corruption", _CLASSES, name, options)
