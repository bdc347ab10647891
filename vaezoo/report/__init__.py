"""One page that puts runs side by side: tables, pictures and charts as a self-contained file, and each as its own."""

from vaezoo.report.build import build, main

__all__ = ["build", "main"]
