"""The latent explorer: one HTML file that runs encoders and decoders of trained models in the browser."""

from vaezoo.explorer.build import write_page

__all__ = ["write_page"]
