"""Base class of autoencoders whose codes come from a codebook."""

import math
from typing import Any

from torch import Tensor

from vaezoo.models.base import Autoencoder
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.base import Quantized, uniform_rate, usage
from vaezoo.training.terms import Terms

RESTARTED = 0.8
"""Share of training in which unused codes are restarted, so that the last ones are trained."""


class QuantizedAutoencoder(Autoencoder):
    """Autoencoder that replaces each position of a spatial code by the nearest code that its quantiser has.

    Its rate is that of indices coded with equal probabilities, N log K nats for N positions and K codes. It has no
    prior to sample from, because the distribution of the indices is not modelled.

    Args:
        code_channels: channels of the code at each position.
        quantizer: by name (see ``vaezoo.nn.quantizers``); quantizer_options: its arguments, such as the size.
    """

    def __init__(
        self,
        *,
        latent_dim: int | None = None,
        code_channels: int | None = 16,
        network: str = "resnet",
        quantizer: str = "vq",
        quantizer_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, code_channels=code_channels, network=network, **shared)
        channels, height, width = self.code_shape
        self.quantizer = make_quantizer(quantizer, channels, quantizer_options)
        self.codebook_sizes = self.quantizer.sizes
        self.index_shape = (len(self.codebook_sizes), height, width)

    def quantize(self, x: Tensor) -> Quantized:
        """The codes of images before they are flattened, their indices and penalties: (B, C, H, W) -> Quantized."""
        found: Quantized = self.quantizer(self.path_code(x).unflatten(1, self.code_shape))
        return found

    def path_code(self, x: Tensor) -> Tensor:
        return self.features(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.quantize(x).code.flatten(1)

    def project(self, code: Tensor) -> Tensor:
        nearest: Quantized = self.quantizer(code.unflatten(1, self.code_shape))
        return nearest.code.flatten(1)

    def indices(self, x: Tensor) -> Tensor:
        return self.quantize(x).indices

    def codes_at(self, indices: Tensor) -> Tensor:
        return self.quantizer.codes(indices).flatten(1)

    def rate(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), uniform_rate(math.prod(self.code_shape[1:]), self.codebook_sizes))

    def loss_terms(self, x: Tensor) -> Terms:
        code, indices, penalties = self.quantize(self.encoder_input(x))
        code, counts = code.flatten(1), usage(indices, self.codebook_sizes)
        outputs = self.outputs(code)
        recon, no_kl = self.likelihood.nll(x, outputs), x.new_zeros(len(x), 0)
        terms = Terms(recon, no_kl, penalties, code, rate=self.rate(x), usage=counts)
        self.penalise(terms, x, outputs, code)
        return terms

    @property
    def wants_images(self) -> int:
        return self.quantizer.wants_images

    def start_from(self, images: Tensor) -> None:
        vectors = self.path_code(images).unflatten(1, self.code_shape).movedim(1, -1)
        self.quantizer.start(vectors.detach().flatten(0, -2))

    def update_statistics(self) -> None:
        self.quantizer.update(restarts=self.progress() < RESTARTED)
