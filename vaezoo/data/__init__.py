"""Data sets of images in [0, 1]: reading, splits and batches."""

from vaezoo.data.datamodule import ImageDataModule
from vaezoo.data.images import Factor

__all__ = ["Factor", "ImageDataModule"]
