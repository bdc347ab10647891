"""What ``vaezoo export`` is asked to write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaezoo.runs.trust import OWN

PROGRAMS = {"none": (), "torch": ("torch",), "onnx": ("onnx",), "both": ("torch", "onnx")}


@dataclass(frozen=True)
class Request:
    """What the command line asks for; ``out`` has no suffix."""

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
        """What programs are written as."""
        return PROGRAMS[self.program]
