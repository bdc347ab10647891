"""Whether this process has rank 0, the only rank that writes and prints. It imports nothing slow."""

import os

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Environment variables with a process's rank, of Lightning, torchrun and SLURM: all 0 or unset in rank 0."""


def is_rank_zero() -> bool:
    """True in rank 0. Reads the environment, so it works before a Trainer exists."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
