"""The comparison report: tables, images and charts on one self-contained page, and as separate files."""

from vaezoo.comparison.report.build import build

__all__ = ["build"]
