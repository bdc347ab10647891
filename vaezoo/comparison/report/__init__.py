"""One page that puts runs side by side: tables, pictures and charts as a self-contained file, and each as its own."""

from vaezoo.comparison.report.build import build

__all__ = ["build"]
