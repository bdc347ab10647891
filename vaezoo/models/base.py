"""Base class of all autoencoders: networks, likelihood and the image API."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vaezoo.config import own_code
from vaezoo.config.choices import NETWORKS
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import one_of, within
from vaezoo.models.objective import Objective
from vaezoo.models.sampling import Sampling
from vaezoo.nn.corruption import make_corruption
from vaezoo.nn.discriminators import make_discriminator
from vaezoo.nn.interpolation import METHODS
from vaezoo.nn.likelihoods import Likelihood, make_likelihood
from vaezoo.nn.networks import LARGEST, activation_of, last_bias, make_networks, make_spatial_networks
from vaezoo.nn.own_networks import make_own_networks
from vaezoo.nn.perceptual import make_perceptual
from vaezoo.training.terms import Batch

BITS_PER_DIMENSION = 32
"""Continuous codes are stored in single precision."""


class Prediction(NamedTuple):
    """Result of ``trainer.predict`` for a batch: codes without noise (B, D) and their decoded images (B, C, H, W)."""

    code: Tensor
    reconstruction: Tensor


class Autoencoder(Sampling, Objective):
    """Encoder, decoder and likelihood, with everything that does not depend on the objective.

    A variant implements ``loss_terms``, ``main_objective`` and ``main_formula``, and, if it has a posterior or a prior,
    ``posterior`` and ``prior``. All arguments are plain values, stored in ``hparams``, so that a checkpoint is
    self-contained.

    A code is one flat tensor (D,), whatever its parts. A spatial code has ``code_shape`` (C, h, w), and D = C h w.

    Args:
        image_shape: channels, height and width of the images; (1, 1, D) are rows of a table, with any finite values.
        latent_dim: dimensions of a flat code; None for a spatial code, whose size follows from the network's grid.
        code_channels: channels of a spatial code; None for a flat code.
        network: encoder and decoder by name (see ``vaezoo.nn.networks``), or the function that makes them, as
            ``package.module:function`` (see ``vaezoo.nn.own_networks``); widths: the sizes of those by name, None for
            the defaults; network_options: further arguments of the function, or the ``activation`` of an mlp.
        likelihood: p(x|z) by name (see ``vaezoo.nn.likelihoods``); likelihood_options: its arguments.
        corruption: of what the encoder sees in training, by name (see ``vaezoo.nn.corruption``), to reconstruct clean
            images, or None; corruption_options: its arguments.
        perceptual: a distance of reconstructions from images that is added to the objective, by name (see
            ``vaezoo.nn.perceptual``), or None; perceptual_options: its arguments, such as its weight.
        discriminator: a critic that tells decoded from real images, by name (see ``vaezoo.nn.discriminators``), or
            None; discriminator_options: its arguments. With one, the weights in use are the last ones.
        optimizer: name of a class of ``torch.optim`` and its arguments; None is ``{"name": "Adam", "lr": 1e-3}``.
        scheduler: the same for ``torch.optim.lr_scheduler``; None keeps the learning rate constant.

    Raises:
        ConfigError: an argument is out of range, or torch cannot train with the optimiser or scheduler.
    """

    networks: Sequence[str] = NETWORKS
    """Values that the argument ``network`` may have."""

    auxiliary: Sequence[str] = ("perceptual", "discriminator")
    """Names of submodules that neither encode nor decode, such as priors and critics."""

    code_shape: tuple[int, ...]
    """(D,), or channels, height and width of a spatial code."""

    one_hots: Sequence[slice] = ()
    """Parts of a code that are one-hot vectors, whose dimensions cannot be moved one by one."""

    channel_levels: Sequence[Sequence[float]] = ()
    """Values that each channel of a spatial code can have, if they are quantised one by one."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int | None = 10,
        code_channels: int | None = None,
        network: str = "mlp",
        widths: list[int] | None = None,
        network_options: dict[str, Any] | None = None,
        likelihood: str = "bernoulli",
        likelihood_options: dict[str, Any] | None = None,
        corruption: str | None = None,
        corruption_options: dict[str, Any] | None = None,
        perceptual: str | None = None,
        perceptual_options: dict[str, Any] | None = None,
        discriminator: str | None = None,
        discriminator_options: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
        scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        self.save_hyperparameters()
        self._check_network(network)
        channels, height, width = image_shape
        self.image_shape = (channels, height, width)
        self.likelihood = self.make_likelihood(likelihood, likelihood_options)
        self.corruption = None
        if corruption is not None:
            self.corruption = make_corruption(corruption, corruption_options, image_shape=self.image_shape)
        self.perceptual = (
            None if perceptual is None else make_perceptual(perceptual, self.image_shape, perceptual_options)
        )
        self._make_networks(network, widths, latent_dim, code_channels)
        self.discriminator = None
        if discriminator is not None:
            self.discriminator = make_discriminator(discriminator, self.image_shape, discriminator_options)
            self.selection = None  # val/recon and val/elbo get worse when decoded images get more real

    def _check_network(self, network: str) -> None:
        """ConfigError for a network that there is not, or settings of another kind of network."""
        options, widths = self.hparams["network_options"], self.hparams["widths"]
        if not own_code.is_own(network) or not set(self.networks) <= set(NETWORKS):
            one_of(network, self.networks, "model.network")
            if options is not None and network != "mlp":
                raise ConfigError(
                    "model.network_options are arguments of a function of yours, and"
                    f" model.network={network} takes none; leave them out"
                )
        elif widths is not None:
            raise ConfigError(
                f"model.widths={widths} are sizes of vaezoo's networks; give those of {network} in"
                " model.network_options"
            )

    def _own_networks(
        self, network: str, size: int, features: int, *, spatial: bool
    ) -> tuple[nn.Module, nn.Module, tuple[int, ...]]:
        options = self.hparams["network_options"]
        return make_own_networks(network, self.image_shape, size, features, options, spatial=spatial)

    def _make_networks(
        self, network: str, widths: list[int] | None, latent_dim: int | None, code_channels: int | None
    ) -> None:
        """Create encoder and decoder, and set the shape of the code."""
        if (latent_dim is None) == (code_channels is None):
            raise ConfigError(
                "a code is flat or spatial: set either model.latent_dim or model.code_channels and the other to null,"
                f" got {latent_dim} and {code_channels}"
            )
        if latent_dim is not None:
            within(latent_dim, 1, LARGEST, "model.latent_dim")
            self.make_posterior(latent_dim)
            features, self.code_shape = self.count_features(latent_dim), (latent_dim,)
            seen = self.count_seen(latent_dim)
            if own_code.is_own(network):
                self.encoder, self.decoder, _ = self._own_networks(network, seen, features, spatial=False)
            else:
                settings = (self.image_shape, seen, features, widths, self.activation)
                self.encoder, self.decoder = make_networks(network, *settings)
        elif code_channels is not None:
            within(code_channels, 1, LARGEST, "model.code_channels")
            self.make_posterior(code_channels)
            features = self.count_features(code_channels)
            if own_code.is_own(network):
                made = self._own_networks(network, code_channels, features, spatial=True)
            else:
                made = make_spatial_networks(network, self.image_shape, code_channels, features, widths)
            self.encoder, self.decoder, self.code_shape = made
        self.latent_dim = math.prod(self.code_shape)

    def make_likelihood(self, name: str, options: dict[str, Any] | None) -> Likelihood:
        """p(x|z) by name, created with its options."""
        return make_likelihood(name, options, image_shape=self.image_shape)

    def make_posterior(self, dimensions: int) -> None:
        """Create what turns encoder outputs into posteriors; ``dimensions`` are channels if codes are spatial."""

    def count_features(self, dimensions: int) -> int:
        """Encoder outputs for a code of so many dimensions, or channels if it is spatial."""
        return dimensions

    def count_seen(self, dimensions: int) -> int:
        """Inputs of the decoder for a flat code of so many dimensions."""
        return dimensions

    @property
    def activation(self) -> type[nn.Module]:
        """What follows the hidden layers of an mlp, and of small networks beside it."""
        return activation_of(self.hparams["network"], self.hparams["network_options"])

    def sizes(self, dimensions: int) -> dict[str, Any]:
        """Settings for the same model with a code of about so many dimensions; none if they follow from the network."""
        return {} if self.hparams["latent_dim"] is None else {"latent_dim": dimensions}

    @property
    def pixels(self) -> int:
        return math.prod(self.image_shape)

    @property
    def directions(self) -> list[slice]:
        """The parts of a continuous code that traversals move: dimensions, or channels if it is spatial."""
        positions = math.prod(self.code_shape[1:])
        return [slice(at, at + positions) for at in range(0, self.latent_dim, positions)]

    # the networks, in their own precision; everything after them is in float32 or higher

    def features(self, x: Tensor) -> Tensor:
        """Encoder outputs, in float32 or higher: (B, C, H, W) -> (B, F), F = ``count_features`` times the positions."""
        return _at_least_float32(self.encoder(x.to(self.dtype), *self._condition(x.shape[0]))).flatten(1)

    def outputs(self, code: Tensor) -> Tensor:
        """Decoder outputs, the likelihood's parameters, in float32 or higher: (B, D) -> (B, C, H, W)."""
        found = self.decoder(self.decoder_input(code.to(self.dtype)), *self._condition(code.shape[0]))
        return _at_least_float32(found)

    def decoder_input(self, code: Tensor) -> Tensor:
        """What the decoder takes: codes (B, D) in their own shape, (B, *code_shape)."""
        return code.unflatten(1, self.code_shape) if len(self.code_shape) > 1 else code

    def _condition(self, count: int) -> tuple[Tensor, ...]:
        """What the networks see besides so many images or codes: nothing, or their labels."""
        return ()

    @torch.no_grad()
    def start_decoder(self, images: Tensor) -> None:
        """Start an untrained decoder at the mean of training images, (B, C, H, W), as Burda et al. (2016) do.

        From mid-grey, the first steps make a mostly black data set's images so dark that sigmoids saturate, which a
        convolutional decoder may never leave. A bias that is not zero was trained, and is kept. Images that are not
        finite are left out: a step names them.
        """
        bias, finite = last_bias(self.decoder), images[images.flatten(1).isfinite().all(1)]
        if bias is not None and not bias.any() and len(finite):
            mean = finite.mean(0) if len(bias) == self.pixels else finite.mean((0, 2, 3))
            bias.copy_(self.likelihood.outputs_near(mean).flatten())

    # corruption ------------------------------------------------------------------------------------------------------

    def encoder_input(self, x: Tensor) -> Tensor:
        """What the encoder sees of images in a loss: corrupted in training if the model has a corruption."""
        return self.corruption(x) if self.corruption is not None and self.training else x

    def recon_corrupted(self, x: Tensor) -> Tensor:
        corrupted = x if self.corruption is None else self.corruption(x)
        posterior = self.posterior(corrupted)
        return self.nll(x, self.encode(corrupted) if posterior is None else posterior.draw(1).first)

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

    def nll_of_draws(self, x: Tensor, code: Tensor) -> Tensor:
        """-log p(x|z) of each image given each of its K codes, in nats: (B, C, H, W) and (K, B, D) -> (K, B)."""
        return self.nll_at(x, self.outputs(code.flatten(0, 1)))

    def nll_at(self, x: Tensor, outputs: Tensor) -> Tensor:
        """The same given what the decoder made of the codes: (B, C, H, W) and (K B, C, H, W) -> (K, B)."""
        again = x.expand(outputs.shape[0] // x.shape[0], *x.shape)
        return self.likelihood.nll(again.flatten(0, 1), outputs).unflatten(0, again.shape[:2])

    def rate(self, x: Tensor) -> Tensor | None:
        """Nats that the codes of a model without posterior cost, such as those of indices: (B, C, H, W) -> (B,), or
        None."""
        return None

    def path_code(self, x: Tensor) -> Tensor:
        """Codes between which paths are drawn, (B, C, H, W) -> (B, D): those of ``encode``, before quantisation if
        codes are discrete."""
        return self.encode(x)

    @property
    def is_spherical(self) -> bool:
        """Whether codes lie on the unit sphere, where paths are arcs and no coordinate moves alone."""
        return False

    @property
    def manifold_dim(self) -> int:
        """Numbers that determine a continuous code: ``latent_dim``, or one less for codes on a sphere."""
        return self.latent_dim - self.is_spherical

    def partial_codes(self, indices: Tensor) -> Tensor | None:
        """Codes of the first level of indices, the first two, ..., if levels refine each other, else None.

        (B, *index_shape) -> (L, B, D).
        """
        return None

    @property
    def code_bits(self) -> float:
        """Bits of the uncompressed code of an image: 32 for each of ``manifold_dim``, or what its indices need."""
        if self.index_layout is None:
            return BITS_PER_DIMENSION * self.manifold_dim
        return self.index_layout.bits()

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructions without noise in the codes and without gradients: (B, C, H, W) or (C, H, W) -> the same."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str | None = None) -> Tensor:
        """Decoded interpolations between the codes of two images, both ends included, without gradients.

        (B, C, H, W) twice -> (B, steps, C, H, W), or (C, H, W) twice -> (steps, C, H, W). ``method`` is linear or
        spherical (see ``vaezoo.nn.interpolation``), by default linear, but spherical for codes on a sphere.
        """
        method = method or ("spherical" if self.is_spherical else "linear")
        codes = METHODS[method](self.path_code(start), self.path_code(end), steps)
        return self.decode(self.project(codes.flatten(0, 1))).unflatten(0, codes.shape[:2])

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Prediction:
        """Codes and reconstructions of a batch (x, y) or x; each rank returns those of its own images."""
        x, share = (batch, None) if isinstance(batch, Tensor) else (batch[0], self._share_of(batch))
        model = self if isinstance(batch, Tensor) or not self.wants_labels else self.given(batch[1])
        code = model.encode(x)
        kept = slice(share.size) if share is not None else slice(None)  # drops a stand-in image
        return Prediction(code[kept], model.decode(code)[kept])


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32, which losses summed over pixels need."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
