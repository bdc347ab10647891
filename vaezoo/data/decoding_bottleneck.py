"""Reports when training was limited by decoding image files, with remedies."""

import os
from pathlib import Path

MUCH = 0.1  # fraction of training time spent waiting, above which it is reported


def sentence(
    waited: float, seconds: float, images: int, *, workers: int, most_workers: int, byte_count: int
) -> str | None:
    """A sentence if ``waited`` is more than a tenth of ``seconds``, else None.

    ``images`` is the number of images seen in training; ``byte_count`` the size of all decoded images.
    """
    if waited <= MUCH * seconds:
        return None
    by = "this process alone" if workers == 0 else f"{workers} worker{'' if workers == 1 else 's'}"
    rates = f"{images / seconds:,.0f} images/s from {by}; the model takes {images / max(seconds - waited, 1e-9):,.0f}"
    remedies = []
    if workers < most_workers:
        remedies.append(f"data.num_workers={most_workers}")
    if byte_count <= memory_bytes() // 2:
        remedies.append(f"data.in_memory=true (needs {byte_count / 2**20:,.0f} MiB)")
    what = f"set {' or '.join(remedies)}" if remedies else "keep smaller files on disk, or give the run more processors"
    share = f"{waited / seconds:.0%} of its time ({rates})"
    return f"decoding was the bottleneck: training waited for images in {share}; {what}"


def memory_bytes() -> int:
    """Memory limit of this process in bytes: the machine's, or its container's if smaller."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, int(allowed)) if allowed.isdigit() else machine
