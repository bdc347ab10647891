"""Data sets as images in [0, 1]: read, divided into splits and batched. Knows no models."""

from vaezoo.data.datamodule import ImageDataModule
from vaezoo.data.images import Factor

__all__ = ["Factor", "ImageDataModule"]
