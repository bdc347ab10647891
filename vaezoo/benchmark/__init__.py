"""The command benchmark: a grid of models, settings and seeds, trained, evaluated and compared."""

from vaezoo.benchmark.command import main

__all__ = ["main"]
