"""Metrics as functions of tensors and arrays."""

from vaezoo.metrics.basic import active_units, bits_per_dim, mse, psnr

__all__ = ["active_units", "bits_per_dim", "mse", "psnr"]
