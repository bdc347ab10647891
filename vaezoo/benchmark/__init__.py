"""``vaezoo benchmark``: trains, evaluates and compares a grid of models, settings and seeds."""

from vaezoo.benchmark.command import main

__all__ = ["main"]
