"""The request of ``vaezoo export``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaezoo.runs.trust import OWN

PROGRAMS = {"none": (), "torch": ("torch",), "onnx": ("onnx",), "both": ("torch", "onnx")}


@dataclass(frozen=True)
class Request:
    """The parsed command line; ``out`` has no suffix."""

    run: Path
    out: Path
    program: str = "none"
    checkpoint: str | None = None
    overwrite: bool = False
    licence: str | None = None
    packages: Sequence[str] = OWN
    root: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Formats in which programs are written."""
        return PROGRAMS[self.program]
