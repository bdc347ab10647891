"""The options of ``vaezoo render`` beside those that other commands have too."""

from dataclasses import dataclass
from typing import Literal

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import check_picture, within

MOST_SAMPLES, MOST = 4096, 128
"""Maximum number of samples, and of rows and columns of other pictures."""


@dataclass(frozen=True)
class RenderOptions:
    """Options of this command alone; those that are None depend on ``what``."""

    what: Literal["sample", "reconstruct", "interpolate", "traverse"] | None = None
    a: str | None = None
    b: str | None = None
    count: int | None = None
    steps: int | None = None
    rows: int = 12
    extent: float = 2.5
    prior: Literal["mixture"] | None = None
    dpi: int = 100

    def __post_init__(self) -> None:
        if self.what is None:
            raise ConfigError("vaezoo render needs what=sample, reconstruct, interpolate or traverse")
        for name, least in (("count", 1), ("steps", 2), ("rows", 1)):
            most = MOST_SAMPLES if name == "count" and self.what == "sample" else MOST
            if getattr(self, name) is not None:
                within(getattr(self, name), least, most, f"render.{name}")
        within(self.extent, 1e-3, 1e3, "render.extent")
        check_picture("render", self.dpi, "png")
        if (self.a is None) != (self.b is None) and self.what == "interpolate":
            raise ConfigError("what=interpolate needs both ends, a=FILE and b=FILE, or neither")
        if self.a is not None and self.what not in ("interpolate", "traverse"):
            raise ConfigError(f"a=FILE is for what=interpolate and what=traverse, got what={self.what}")
        if self.b is not None and self.what != "interpolate":
            raise ConfigError(f"b=FILE is for what=interpolate, got what={self.what}")
        if self.prior is not None and self.what != "sample":
            raise ConfigError(f"prior=mixture is for what=sample, got what={self.what}")
