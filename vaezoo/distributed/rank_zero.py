"""Whether this is the first of a run's processes, which alone writes and prints. It imports nothing that takes time."""

import os

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""What Lightning, torchrun and SLURM call a process's place in the environment: all are 0, or missing, in the first."""


def is_rank_zero() -> bool:
    """As the environment says, before there is a trainer."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)
