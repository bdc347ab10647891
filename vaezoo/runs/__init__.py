"""A run folder: what is written into it, how it is read back, and what it may make."""

from vaezoo.runs.folder import (
    RECORD,
    RunFolder,
    clear,
    refuse_if_taken,
    start,
    tidy,
    write_evaluation,
    write_summary,
)

__all__ = [
    "RECORD",
    "RunFolder",
    "clear",
    "refuse_if_taken",
    "start",
    "tidy",
    "write_evaluation",
    "write_summary",
]
