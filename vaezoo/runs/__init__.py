"""Run folders: writing, reading, locking, resuming, and checks of untrusted ones."""

from vaezoo.runs.folder import (
    RECORD,
    RunFolder,
    clear,
    refuse_if_taken,
    start,
    tidy,
    write_evaluation,
    write_index_prior,
    write_mixture,
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
    "write_index_prior",
    "write_mixture",
    "write_summary",
]
