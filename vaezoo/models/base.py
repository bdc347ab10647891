"""What every autoencoder is: networks, likelihood and the image API. It knows no variant, and nothing of training."""

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
    """A batch of ``trainer.predict``: codes without noise (B, D), and pixels decoded from them (B, C, H, W)."""

    code: Tensor
    reconstruction: Tensor


class Autoencoder(ImageAPI, Loop):
    """Encoder, decoder and likelihood, and everything that does not depend on how they are trained.

    A variant gives ``loss_terms``, ``objective`` and ``formula``, and ``posterior`` and ``sample`` if it has them. All
    arguments are plain values, kept in ``hparams``, so that a checkpoint needs nothing but itself.

    Args:
        image_shape: channels, height and width of the images.
        latent_dim: dimensions of the code.
        network: encoder and decoder by name (see ``vaezoo.nn.networks``); widths: their sizes, None for the defaults.
        likelihood: p(x|z) by name (see ``vaezoo.nn.likelihoods``); likelihood_options: its own arguments.
        optimizer: a name of ``torch.optim`` and its arguments, ``{"name": "Adam", "lr": 1e-3}`` if None.
        scheduler: likewise of ``torch.optim.lr_scheduler``; None keeps the learning rate.
    """

    features_per_dimension = 1
    """Encoder outputs for each latent dimension."""

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

    # the networks, in their own precision; all that follows is in float32 at least

    def features(self, x: Tensor) -> Tensor:
        """What the encoder says of each image: (B, C, H, W) -> (B, features)."""
        return _precise(self.encoder(x.to(self.dtype)))

    def outputs(self, code: Tensor) -> Tensor:
        """What the decoder says of each code, the likelihood's parameters: (B, D) -> (B, C, H, W)."""
        return _precise(self.decoder(code.to(self.dtype)))

    # the image API: pixels in [0, 1] ---------------------------------------------------------------------------------
    #
    # ``encode``, ``posterior``, ``decode``, ``reconstruct``, ``interpolate`` and ``sample`` check what they are given
    # and raise ImageError. Looking at pixels' values makes a GPU wait once for each call from outside.

    def encode(self, x: Tensor) -> Tensor:
        """The code of each image, the mean where there is a posterior: (B, C, H, W) -> (B, D), or (C, H, W) -> (D,).

        Gradients are kept, to the images and to the weights; use ``torch.no_grad()`` where none are wanted.
        """
        posterior = self.posterior(x)
        return self.features(x) if posterior is None else posterior.mean

    def decode(self, code: Tensor) -> Tensor:
        """Pixels of each code, in [0, 1]: (B, D) -> (B, C, H, W), or (D,) -> (C, H, W).

        Gradients are kept, to the codes and to the weights; use ``torch.no_grad()`` where none are wanted.
        """
        return self.likelihood.mean(self.outputs(code))

    def log_likelihood(self, x: Tensor, code: Tensor) -> Tensor:
        """log p(x|z) of each image and its code, in nats: (B, C, H, W) and (B, D) -> (B,)."""
        return self.likelihood.log_prob(x, self.outputs(code))

    def nll(self, x: Tensor, code: Tensor) -> Tensor:
        """-log p(x|z) of each image and its code, in nats: (B, C, H, W) and (B, D) -> (B,)."""
        return self.likelihood.nll(x, self.outputs(code))

    def explain_weights(self) -> list[str]:
        """Sentences on what the weights of the objective mean, for the head of a run."""
        return []

    def log_prior(self, code: Tensor) -> Tensor | None:
        """log p(z) of each code, in nats, (B, D) -> (B,); None where there is no prior."""
        return None

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Each image through its code and back, without noise: (B, C, H, W) -> (B, C, H, W), or a single one likewise.

        No gradients are kept.
        """
        return self.decode(self.encode(x))

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str = "linear") -> Tensor:
        """Decoded codes on the way from one image to another, both ends included: -> (B, steps, C, H, W).

        Of two single images (C, H, W) it is (steps, C, H, W). ``method`` is linear or spherical (see
        ``vaezoo.nn.interpolation``). No gradients are kept.
        """
        codes = METHODS[method](self.encode(start), self.encode(end), steps)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Decoded draws from the prior, (count, C, H, W); None where the prior says nothing of the codes.

        No gradients are kept.
        """
        return None

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Prediction:
        """Codes and reconstructions of a batch (x, y) or x, for ``trainer.predict``: (B, C, H, W) -> Prediction.

        Where several devices have a batch between them, each gives those of its own images.
        """
        x, share = (batch, None) if isinstance(batch, Tensor) else (batch[0], self._share_of(batch))
        code = self.encode(x)
        kept = slice(share.size) if share is not None else slice(None)  # without a stand-in
        return Prediction(code[kept], self.decode(code)[kept])


def _precise(values: Tensor) -> Tensor:
    """Half precision made single; losses summed over pixels need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
