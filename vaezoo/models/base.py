"""Base class of all autoencoders: networks, likelihood and the image API."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vaezoo.config.validation import within
from vaezoo.nn.image_api import ImageAPI
from vaezoo.nn.interpolation import METHODS
from vaezoo.nn.likelihoods import make_likelihood
from vaezoo.nn.networks import LARGEST, make_networks
from vaezoo.training.module import Loop
from vaezoo.training.terms import Batch


class Prediction(NamedTuple):
    """Result of ``trainer.predict`` for a batch: codes without noise (B, D) and their decoded images (B, C, H, W)."""

    code: Tensor
    reconstruction: Tensor


class Autoencoder(ImageAPI, Loop):
    """Encoder, decoder and likelihood, with everything that does not depend on the objective.

    A variant implements ``loss_terms``, ``objective`` and ``formula``, and, if it has a posterior or a prior,
    ``posterior``, ``log_prior`` and ``sample``. All arguments are plain values, stored in ``hparams``, so that a
    checkpoint is self-contained.

    Args:
        image_shape: channels, height and width of the images.
        latent_dim: dimensions of the code.
        network: encoder and decoder by name (see ``vaezoo.nn.networks``); widths: their sizes, None for the defaults.
        likelihood: p(x|z) by name (see ``vaezoo.nn.likelihoods``); likelihood_options: its arguments.
        optimizer: name of a class of ``torch.optim`` and its arguments; None is ``{"name": "Adam", "lr": 1e-3}``.
        scheduler: the same for ``torch.optim.lr_scheduler``; None keeps the learning rate constant.

    Raises:
        ConfigError: an argument is out of range, or torch cannot train with the optimiser or scheduler.
    """

    features_per_dimension = 1
    """Encoder outputs per latent dimension, such as 2 for mean and logvar."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int = 10,
        network: str = "mlp",
        widths: list[int] | None = None,
        likelihood: str = "bernoulli",
        likelihood_options: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        within(latent_dim, 1, LARGEST, "model.latent_dim")
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.latent_dim = latent_dim
        self.likelihood = make_likelihood(likelihood, likelihood_options)
        features = self.features_per_dimension * latent_dim
        self.encoder, self.decoder = make_networks(network, self.image_shape, latent_dim, features, widths)

    @property
    def pixels(self) -> int:
        return math.prod(self.image_shape)

    # the networks, in their own precision; everything after them is in float32 or higher

    def features(self, x: Tensor) -> Tensor:
        """Encoder outputs, in float32 or higher: (B, C, H, W) -> (B, latent_dim * features_per_dimension)."""
        return _at_least_float32(self.encoder(x.to(self.dtype)))

    def outputs(self, code: Tensor) -> Tensor:
        """Decoder outputs, the likelihood's parameters, in float32 or higher: (B, D) -> (B, C, H, W)."""
        return _at_least_float32(self.decoder(code.to(self.dtype)))

    # the image API: pixels in [0, 1] ---------------------------------------------------------------------------------
    #
    # ``encode``, ``posterior``, ``decode``, ``reconstruct``, ``interpolate`` and ``sample`` check their arguments and
    # raise ImageError. Checking pixel values synchronises with the GPU once per call from outside.

    def encode(self, x: Tensor) -> Tensor:
        """The codes of images, posterior means if there is a posterior: (B, C, H, W) -> (B, D), or (C, H, W) -> (D,).

        Differentiable; use ``torch.no_grad()`` where no gradients are needed.
        """
        posterior = self.posterior(x)
        return self.features(x) if posterior is None else posterior.mean

    def decode(self, code: Tensor) -> Tensor:
        """Decoded images, pixels in [0, 1]: (B, D) -> (B, C, H, W), or (D,) -> (C, H, W).

        Differentiable; use ``torch.no_grad()`` where no gradients are needed.
        """
        return self.likelihood.mean(self.outputs(code))

    def log_likelihood(self, x: Tensor, code: Tensor) -> Tensor:
        """log p(x|z) of each image given its code, in nats: (B, C, H, W) and (B, D) -> (B,)."""
        return self.likelihood.log_prob(x, self.outputs(code))

    def nll(self, x: Tensor, code: Tensor) -> Tensor:
        """-log p(x|z) of each image given its code, in nats: (B, C, H, W) and (B, D) -> (B,)."""
        return self.likelihood.nll(x, self.outputs(code))

    def explain_weights(self) -> list[str]:
        """Sentences on what the weights of the objective mean, for the head of a run."""
        return []

    def log_prior(self, code: Tensor) -> Tensor | None:
        """log p(z) in nats, (B, D) -> (B,); None if the model has no prior."""
        return None

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions without noise in the codes and without gradients: (B, C, H, W) or (C, H, W) -> the same."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str = "linear") -> Tensor:
        """Decoded interpolations between the codes of two images, both ends included, without gradients.

        (B, C, H, W) twice -> (B, steps, C, H, W), or (C, H, W) twice -> (steps, C, H, W). ``method`` is linear or
        spherical (see ``vaezoo.nn.interpolation``).
        """
        codes = METHODS[method](self.encode(start), self.encode(end), steps)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Images decoded from draws of the prior, without gradients: (count, C, H, W); None without a prior."""
        return None

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Prediction:
        """Codes and reconstructions of a batch (x, y) or x; each rank returns those of its own images."""
        x, share = (batch, None) if isinstance(batch, Tensor) else (batch[0], self._share_of(batch))
        code = self.encode(x)
        kept = slice(share.size) if share is not None else slice(None)  # drops a stand-in image
        return Prediction(code[kept], self.decode(code)[kept])


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32, which losses summed over pixels need."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
