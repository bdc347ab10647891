"""Figures from tensors and arrays."""

from vaezoo.figures.canvas import raster, write_vector
from vaezoo.figures.images import codebook, index_maps, interpolations, reconstructions, rows, samples, traversals
from vaezoo.figures.latents import Labels, Plane, Prior, draw_prior, latent_kl, latent_line, latent_map

__all__ = [
    "Labels",
    "Plane",
    "Prior",
    "codebook",
    "draw_prior",
    "index_maps",
    "interpolations",
    "latent_kl",
    "latent_line",
    "latent_map",
    "raster",
    "reconstructions",
    "rows",
    "samples",
    "traversals",
    "write_vector",
]
