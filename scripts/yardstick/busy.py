"""Background processes that keep processors busy while contestants are measured."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPINNER = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Computes until the process that started it has ended."""


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep ``count`` processes of one thread each computing meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", SPINNER, str(os.getpid())]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
