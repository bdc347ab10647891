"""What training asks of a model: its terms, objective and codes, with defaults for what most models do not need."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Self

import lightning.pytorch as L
from torch import Tensor

from vaezoo.nn.corruption import Corruption
from vaezoo.nn.likelihoods import Likelihood
from vaezoo.nn.posteriors.base import Posterior
from vaezoo.training.terms import Batch, Terms, Weights


class ModelInterface(L.LightningModule):
    """Methods and attributes that every model has, and that tools ask instead of its class."""

    selection: tuple[str, str] | None = ("val/recon", "min")
    """Metric that selects ``best.ckpt``, and "min" or "max"; it must not depend on the weights of the objective. None
    if no metric tells which weights are best: then there is ``last.ckpt`` alone."""

    critics: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Submodules that play against the rest of the model by name, each with the optimiser's settings of its parameter
    group; the others are those of the model."""

    wants_labels = False
    """Whether ``loss_terms`` takes the labels of the images as its second argument."""

    is_conditional = False
    """Whether images are modelled given their label. Bounds are then on log p(x|y), under names of their own."""

    classes: int | None = None
    """Number of labels of a conditional model, which are 0 to classes - 1."""

    train_images: int | None = None
    """Number of training images, for statistics that depend on it; None if unknown."""

    likelihood: Likelihood
    corruption: Corruption | None = None
    """Of the images that the encoder sees in training, to reconstruct clean ones."""

    # what is minimised ------------------------------------------------------------------------------------------------

    def loss_terms(self, x: Tensor) -> Terms:
        """Unweighted loss terms in nats per image, from draws of the code: (B, C, H, W) -> Terms.

        A model that ``wants_labels`` gets the labels (B,) or (B, F) as its second argument.
        """
        raise NotImplementedError

    def objective(self, terms: Terms, weights: Weights) -> Tensor:
        """The training objective of each image in nats, with the current ``weights()``: (B,)."""
        raise NotImplementedError

    def formula(self) -> str:
        """The objective as text, such as ``recon + 4 kl``."""
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """Weights of the objective at the current optimiser step, by name; they are logged."""
        return {}

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """The arguments of ``loss_terms`` in a batch: images (B, C, H, W), and labels if the model wants them."""
        return tuple(batch[: 1 + self.wants_labels])

    def recon_corrupted(self, x: Tensor) -> Tensor:
        """recon of clean images given codes of corrupted ones, of a model with a corruption: (B, C, H, W) -> (B,)."""
        raise NotImplementedError

    def count_labels(self, labels: Tensor) -> None:
        """Called before training with the labels of all training images, (N,) or (N, F), if the model wants labels."""

    def given(self, labels: Tensor | int, end_labels: Tensor | int | None = None) -> Self:
        """The model with labels fixed for all its methods: one for each row of a batch, or a single one for all.

        ``end_labels`` are those of the images at the end of paths, if they differ. A model that is not conditional
        returns itself.
        """
        return self

    # codes -----------------------------------------------------------------------------------------------------------

    def posterior(self, x: Tensor) -> Posterior | None:
        """q(z|x), or None for a deterministic encoder: (B, C, H, W) -> a distribution with a mean of (B, D).

        Accepts a single image too: (C, H, W) -> (D,). Differentiable.
        """
        return None

    def encode(self, x: Tensor) -> Tensor:
        """The code of each image: (B, C, H, W) -> (B, D)."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """Decoded images: (B, D) -> (B, C, H, W), pixels in [0, 1]."""
        raise NotImplementedError

    @property
    def pixels(self) -> int:
        """Channels times height times width: the number of terms in the reconstruction sum."""
        raise NotImplementedError

    # what some models have besides ---------------------------------------------------------------------------------

    def waiting_critics(self) -> Collection[str]:
        """Names of the critics that are not trained yet at the current optimiser step."""
        return ()

    def statistics(self) -> dict[str, Tensor]:
        """Further numbers () that are logged in training, by name."""
        return {}

    def complaints(self, found: Mapping[str, Tensor]) -> dict[str, str]:
        """What is wrong with a training after a validation that ``found`` these metrics, (), by name.

        Sentences by what they are about; each is logged once.
        """
        return {}

    def update_statistics(self) -> None:
        """Called before each optimiser step, for buffers that follow the encoder, such as a codebook's averages."""

    @property
    def wants_images(self) -> int:
        """Number of training images that ``start_from`` wants before the first step, 0 for none or if it was called.

        A model that starts from images remembers in a buffer that it has started, so that it does so once.
        """
        return 0

    def start_decoder(self, images: Tensor) -> None:
        """Set an untrained decoder's outputs to suit training images, (B, C, H, W)."""

    def start_from(self, images: Tensor) -> None:
        """Set parameters that start from training images, (B, C, H, W)."""
