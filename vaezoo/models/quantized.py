"""Base class of autoencoders whose codes come from a codebook."""

import math
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.models.base import Autoencoder
from vaezoo.nn.index_layout import IndexLayout
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.nn.priors.base import Prior
from vaezoo.nn.quantizers import make_quantizer
from vaezoo.nn.quantizers.base import Quantized, Quantizer
from vaezoo.training.terms import Terms

RESTARTED = 0.8
"""Share of training in which unused codes are restarted, so that the last ones are trained."""

HALF = ("bf16-true", "16-true")
"""Precisions whose parameters and buffers are not in float32."""


class QuantizedAutoencoder(Autoencoder):
    """Autoencoder that replaces each position of a spatial code by the nearest code that its quantiser has.

    Its rate is that of indices coded with equal probabilities, sum_m N_m log K_m nats for N_m positions and K_m codes
    of each codebook. It has no prior to sample from, because the distribution of the indices is not modelled. A
    quantiser that draws codes has a posterior instead, with the KL divergence from equal probabilities as its rate.

    Args:
        code_channels: channels of the code at each position; None for as many as the quantiser has by default, or as
            follow from its options.
        quantizer: by name (see ``vaezoo.nn.quantizers``); quantizer_options: its arguments, such as the size.
    """

    selection = ("val/elbo", "max")
    quantizer: Quantizer
    index_layout: IndexLayout

    def __init__(
        self,
        *,
        latent_dim: int | None = None,
        code_channels: int | None = None,
        network: str = "resnet",
        quantizer: str = "vq",
        quantizer_options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, code_channels=code_channels, network=network, **shared)
        self.channel_levels = self.quantizer.channel_levels

    def _make_networks(
        self, network: str, widths: list[int] | None, latent_dim: int | None, code_channels: int | None
    ) -> None:
        quantizer = self._make_quantizer(code_channels)
        self.encoder_features = quantizer.features
        super()._make_networks(network, widths, latent_dim, quantizer.channels)
        self.quantizer = quantizer  # after the networks, also among the parameters of an optimiser
        self.grid_shape = self.code_shape[1:]
        self.code_shape, self.index_layout = quantizer.lay_out(*self.grid_shape)
        self.latent_dim = math.prod(self.code_shape)

    def _make_quantizer(self, code_channels: int | None) -> Quantizer:
        return make_quantizer(self.hparams["quantizer"], code_channels, self.hparams["quantizer_options"])

    def setup(self, stage: str) -> None:
        """ConfigError in half precision, in which moving averages of codes stand still."""
        if (precision := str(self.trainer.precision)) in HALF:
            raise ConfigError(
                f"trainer.precision={precision} has too few bits to train a quantiser; set"
                f" trainer.precision={precision.replace('true', 'mixed')}"
            )
        super().setup(stage)

    def count_features(self, dimensions: int) -> int:
        return self.encoder_features

    def grid(self, x: Tensor) -> Tensor:
        """Encoder outputs at each position: (B, C, H, W) -> (B, F, h, w)."""
        return self.features(x).unflatten(1, (-1, *self.grid_shape))

    def quantize(self, x: Tensor) -> Quantized:
        """The codes of images before they are flattened, their indices and penalties: (B, C, H, W) -> Quantized."""
        found: Quantized = self.quantizer(self.grid(x))
        return found

    def path_code(self, x: Tensor) -> Tensor:
        return self.quantizer.path(self.grid(x)).flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        return self.quantize(x).code.flatten(1)

    def project(self, code: Tensor) -> Tensor:
        return self.quantizer.project(code.unflatten(1, self.code_shape)).flatten(1)

    def indices(self, x: Tensor) -> Tensor:
        return self.quantize(x).indices

    def draw_indices(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        posterior = self.posterior(x)
        return self.indices(x) if posterior is None else self.indices_of(posterior.draw(1, generator).first)

    def indices_of(self, code: Tensor) -> Tensor:
        return self.quantizer.indices_of(code.unflatten(1, self.code_shape))

    def codes_at(self, indices: Tensor) -> Tensor:
        return self.quantizer.codes(indices).flatten(1)

    def partial_codes(self, indices: Tensor) -> Tensor | None:
        found = self.quantizer.partial_codes(indices)
        return None if found is None else found.flatten(2)

    def posterior(self, x: Tensor) -> Posterior | None:
        return self.quantizer.posterior(self.grid(x))

    def prior(self) -> Prior | None:
        return self.quantizer.prior(math.prod(self.grid_shape))

    def rate(self, x: Tensor) -> Tensor:
        return x.new_full((len(x),), self.index_layout.uniform_rate())

    def loss_terms(self, x: Tensor) -> Terms:
        grid = self.grid(self.encoder_input(x))
        posterior = self.quantizer.posterior(grid)
        code, indices, penalties = self.quantizer(grid)
        code, counts = code.flatten(1), self.index_layout.usage(indices)
        used, drawn, prior = code, None, self.prior()
        kl, kl_by, rate = x.new_zeros(len(x), 0), "dimension", self.rate(x)
        if posterior is not None and prior is not None:
            drawn = posterior.draw()
            used, kl, kl_by = drawn.first, posterior.kl(prior, drawn), posterior.kl_by(prior)
            rate = kl.sum(1)
        outputs = self.outputs(used)
        terms = Terms(self.likelihood.nll(x, outputs), kl, penalties, code, rate, kl_by, usage=counts)
        terms.posterior, terms.draw = posterior, drawn
        terms.batch_statistics = self.quantizer.batch_statistics
        self.penalise(terms, x, outputs, used, posterior, prior)
        return terms

    @property
    def wants_images(self) -> int:
        return self.quantizer.wants_images

    def start_from(self, images: Tensor) -> None:
        self.quantizer.start_from(self.grid(images).detach())

    def statistics(self) -> dict[str, Tensor]:
        return {**super().statistics(), **self.quantizer.statistics()}

    def update_statistics(self) -> None:
        self.quantizer.update(self.progress() < RESTARTED, self.global_step + 1)
