"""The request of ``vaezoo export``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vaezoo.config.arguments import KEY
from vaezoo.runs.trust import OWN

PROGRAMS = {"none": (), "torch": ("torch",), "onnx": ("onnx",), "both": ("torch", "onnx")}


@dataclass(frozen=True)
class Options:
    """Options of the command, as typed."""

    out: str
    program: Literal["none", "torch", "onnx", "both"]
    checkpoint: Literal["best", "last"]
    overwrite: bool
    card: bool
    licence: str | None
    packages: Any
    root: str | None = field(metadata={KEY: "data.root"})


@dataclass(frozen=True)
class Request:
    """The parsed command line; ``out`` has no suffix."""

    run: Path
    out: Path
    program: str = "none"
    checkpoint: str | None = None
    overwrite: bool = False
    card: bool = False
    licence: str | None = None
    packages: Sequence[str] = OWN
    root: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Formats in which programs are written."""
        return PROGRAMS[self.program]
