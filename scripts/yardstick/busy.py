"""Other programs that keep processors busy while contestants are measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SPINNER = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""Computes until the process that started it has ended."""


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep ``count`` processes of one thread each computing meanwhile."""
    processes = [subprocess.Popen([sys.executable, "-c", SPINNER]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
