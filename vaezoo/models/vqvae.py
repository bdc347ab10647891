"""The vector-quantised autoencoder."""

import math
from typing import Any

from torch import Tensor

from vaezoo.config.validation import at_least
from vaezoo.models.base import Autoencoder
from vaezoo.nn.quantizers import Quantized, make_quantizer, uniform_rate, usage
from vaezoo.training.terms import Terms, Weights

RESTARTED = 0.8
"""Share of training in which unused codes are restarted, so that the last ones are trained."""


class VQVAE(Autoencoder):
    """Autoencoder with codes from a learned codebook (van den Oord et al., 2017).

    Its rate is that of indices coded with equal probabilities, N log K nats for N positions and K codes. It has no
    prior to sample from: the distribution of the indices is not modelled.

    Args:
        quantizer: by name (see ``vaezoo.nn.quantizers``); quantizer_options: its arguments, such as the size.
        commitment: weight of the squared distances of encoder outputs from their codes.
    """

    def __init__(
        self,
        *,
        latent_dim: int | None = None,
        code_channels: int | None = 16,
        network: str = "resnet",
        quantizer: str = "vq",
        quantizer_options: dict[str, Any] | None = None,
        commitment: float = 0.25,
        **shared: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, code_channels=code_channels, network=network, **shared)
        at_least(commitment, 0, "model.commitment")
        self.commitment = commitment
        self.quantizer = make_quantizer(quantizer, self.code_shape[0], quantizer_options)
        self.codebook_sizes = self.quantizer.sizes
        _, height, width = self.code_shape
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
        return self.quantizer(code.unflatten(1, self.code_shape)).code.flatten(1)

    def indices(self, x: Tensor) -> Tensor:
        return self.quantize(x).indices

    def codes_at(self, indices: Tensor) -> Tensor:
        return self.quantizer.codes(indices).flatten(1)

    def rate(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), uniform_rate(math.prod(self.code_shape[1:]), self.codebook_sizes))

    def loss_terms(self, x: Tensor) -> Terms:
        code, indices, penalties = self.quantize(x)
        code, counts = code.flatten(1), usage(indices, self.codebook_sizes)
        return Terms(self.nll(x, code), x.new_zeros(len(x), 0), penalties, code, rate=self.rate(x), usage=counts)

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        loss = terms.recon + self.commitment * terms.penalties["commitment"]
        return loss + terms.penalties["codebook"] if "codebook" in terms.penalties else loss

    def formula(self) -> str:
        return f"recon + {self.commitment:g} commitment{self.quantizer.formula()}"

    @property
    def wants_images(self) -> int:
        return self.quantizer.wants_images

    def start_from(self, images: Tensor) -> None:
        codes = self.path_code(images).unflatten(1, self.code_shape)
        self.quantizer.start(codes.detach().movedim(1, -1).flatten(0, -2))

    def update_statistics(self) -> None:
        self.quantizer.update(restarts=self.progress() < RESTARTED)
