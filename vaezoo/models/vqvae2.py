"""The vector-quantised autoencoder with two grids of codes."""

from typing import Any

from torch import Tensor

from vaezoo.config.validation import within
from vaezoo.models.vqvae import VQVAE
from vaezoo.nn.networks import LARGEST
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.two_grids import TwoGridQuantizer


class VQVAE2(VQVAE):
    """VQ-VAE with a coarse and a fine grid of codes, of which the fine one adds detail (Razavi et al., 2019).

    The top has half the height and width of the bottom, whose codes depend on those of the top, and the decoder sees
    both. It minimises recon + ``commitment`` times the commitment of both grids. The rate is N_t log K_t + N_b log K_b,
    and a code has the grids side by side, top first. Both grids have the same quantiser, each with its own codes.

    Args:
        grid_width: channels of the encoder's outputs, and of the layers between the grids.

    Raises:
        ConfigError: an argument is out of range, or a quantiser that draws codes.
    """

    networks = ("conv", "resnet")
    quantizer: TwoGridQuantizer

    def __init__(self, *, grid_width: int = 64, **shared: Any) -> None:
        super().__init__(**shared)

    def _make_quantizer(self, code_channels: int | None) -> TwoGridQuantizer:
        width, name, options = (self.hparams[key] for key in ("grid_width", "quantizer", "quantizer_options"))
        within(width, 1, LARGEST, "model.grid_width")
        return TwoGridQuantizer(lambda: make_quantizer(name, code_channels, options), width)

    def decoder_input(self, code: Tensor) -> Tensor:
        return self.quantizer.on_one_grid(code)
