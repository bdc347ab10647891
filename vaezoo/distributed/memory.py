"""The memory of this machine, to refuse what can never fit before it is allocated."""

import os
from pathlib import Path

from vaezoo.config.errors import ConfigError

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with a container's memory limit on Linux (cgroup 2 and 1)."""


def machine_bytes() -> int:
    """Total memory of this machine or container, in bytes."""
    limits = [path.read_text().strip() for path in LIMITS if path.is_file()]
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *(int(limit) for limit in limits if limit.isdecimal())])


def refuse_beyond(needed: int, what: str, remedy: str) -> None:
    """ConfigError if ``what`` needs more bytes than this machine has: Linux would kill the process later."""
    if needed > machine_bytes():
        raise ConfigError(
            f"{what} would take {needed / 2**30:,.0f} GiB, and this machine has {machine_bytes() / 2**30:,.0f} GiB of"
            f" memory; {remedy}"
        )
