"""Numbers that say how good a model is. They know tensors and arrays, nothing of runs and logging."""

from vaezoo.metrics.basic import active_units, bits_per_dim, mse, psnr

__all__ = ["active_units", "bits_per_dim", "mse", "psnr"]
