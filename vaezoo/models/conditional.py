"""Base class of models of images given their label, which encoder and decoder see beside image and code."""

from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError, ImageError
from vaezoo.config.validation import within
from vaezoo.models.continuous import ContinuousAutoencoder
from vaezoo.nn.image_api import is_checking
from vaezoo.nn.interpolation import METHODS
from vaezoo.nn.networks import Labelled
from vaezoo.nn.priors.base import Prior
from vaezoo.training.terms import Batch, Terms

MOST_CLASSES = 2**16


class Conditional(ContinuousAutoencoder):
    """Mixin that conditions an autoencoder on a label y: p(x|z, y) and q(z|x, y). The code z does not contain y.

    ``given(labels)`` is the model with labels fixed, which has the image API; without labels, only ``sample`` and
    ``prior`` work. On a path between two images, everything is decoded with the label of the first.

    Args:
        classes: number of labels, which are 0 to classes - 1; null takes it from the data when training starts.

    Raises:
        ConfigError: ``classes`` is out of range, or the prior starts from images.
    """

    wants_labels = True
    is_conditional = True
    classes: int
    label_frequency: Tensor
    """Frequencies of the labels of the training images, (classes,), by which ``sample`` draws labels."""

    _labels: Tensor | None = None
    _end_labels: Tensor | None = None

    def __init__(self, *, classes: int | None = None, **shared: Any) -> None:
        super().__init__(**shared)
        self.register_buffer("label_frequency", torch.full((self.classes,), 1 / self.classes))
        if self.wants_images:
            raise ConfigError(
                f"model.prior={self.hparams['prior']} needs images without their labels to start from, which"
                f" {type(self).__name__} cannot encode; set model.prior to normal or conditional"
            )

    def _make_networks(self, *settings: Any) -> None:
        self.classes = self.hparams["classes"]
        if self.classes is None:
            raise ConfigError("model.classes must be the number of labels, which are 0 to classes - 1, got null")
        within(self.classes, 1, MOST_CLASSES, "model.classes")
        super()._make_networks(*settings)
        if not (isinstance(self.encoder, nn.Sequential) and isinstance(self.decoder, nn.Sequential)):
            raise ConfigError(
                f"{type(self).__name__} adds the label to the first layer of a network, so model.network={settings[0]}"
                " must return two nn.Sequential"
            )
        self.encoder, self.decoder = Labelled(self.encoder, self.classes), Labelled(self.decoder, self.classes)

    # training --------------------------------------------------------------------------------------------------------

    def loss_terms(self, x: Tensor, labels: Tensor) -> Terms:  # type: ignore[override]
        self._labels = labels
        try:
            return super().loss_terms(x)
        finally:
            self._labels = None

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        labels = batch[1] if len(batch) > 1 else None
        if not isinstance(labels, Tensor) or labels.dim() != 1:
            got = f"labels of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else "a batch without labels"
            raise ConfigError(f"{type(self).__name__} needs one label for each image of a batch (x, y), got {got}")
        return batch[0], labels

    def count_labels(self, labels: Tensor) -> None:
        """Count how often each label occurs; ConfigError for labels outside of 0 to classes - 1."""
        least, most = int(labels.min()), int(labels.max())
        if labels.dim() > 1 or least < 0 or most >= self.classes:
            raise ConfigError(
                f"model.classes={self.classes} needs one label from 0 to {self.classes - 1} for each image, got"
                f" {least} to {most} of shape {tuple(labels.shape)}; set model.classes to the number of labels"
            )
        counts = torch.bincount(labels.cpu(), minlength=self.classes)
        self.label_frequency.copy_(counts / counts.sum())

    # the image API, given labels -------------------------------------------------------------------------------------

    @property
    def labels_given(self) -> int | None:  # type: ignore[override]
        return None if self._labels is None else len(self._labels)

    def given(self, labels: Tensor | int | Sequence[int], end_labels: Tensor | int | None = None) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._labels = self._checked(labels)
        view._end_labels = None if end_labels is None else self._checked(end_labels)
        return view

    def _checked(self, labels: Any) -> Tensor:
        """The labels (B,) on the model's device; ImageError for anything but whole numbers from 0 to classes - 1."""
        found = torch.as_tensor(labels, device=self.device)
        found = found[None] if found.dim() == 0 else found
        if not is_checking():
            return found
        wanted = f"given needs one label for each image, or a single one, from 0 to {self.classes - 1}, got"
        if found.dim() != 1 or found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
            raise ImageError(f"{wanted} {found.dtype} of shape {tuple(found.shape)}")
        if not len(found) or not bool(((found >= 0) & (found < self.classes)).all()):
            raise ImageError(f"{wanted} {f'{int(found.min())} to {int(found.max())}' if len(found) else 'none'}")
        return found

    def _condition(self, count: int) -> tuple[Tensor, ...]:
        """One-hot labels of so many images or codes; those of a batch are repeated for further sets of its codes."""
        if self._labels is None:
            raise ImageError(
                f"{type(self).__name__} needs the label of each image; write model.given(labels) where you write model"
            )
        codes = self._one_hot(self._labels)
        return (codes if codes.shape[0] == count else codes.repeat(count // codes.shape[0], 1),)

    def _one_hot(self, labels: Tensor) -> Tensor:
        """One-hot labels, (B,) -> (B, classes); NaN for a label that is none of the classes, without waiting for it."""
        codes = (labels[:, None] == torch.arange(self.classes, device=labels.device)).to(self.dtype)
        return codes / codes.sum(1, keepdim=True)

    def prior(self) -> Prior | None:
        """p(z), or p(z|y) of each row if labels are given; without labels, that of ``sample``."""
        if self.prior_model is None or not self.prior_model.needs_labels:
            return super().prior()
        if self._labels is None:
            return self.prior_model.marginal(self.label_frequency)
        return self.prior_model.given(self._one_hot(self._labels))

    @torch.no_grad()
    def interpolate(self, start: Tensor, end: Tensor, *, steps: int = 8, method: str | None = None) -> Tensor:
        """As for any model; all is decoded with the label of the start, also the code of the end."""
        to = self if self._end_labels is None else self.given(self._end_labels)
        method = method or ("spherical" if self.is_spherical else "linear")
        codes = METHODS[method](self.path_code(start), to.path_code(end), steps)
        labels = self._labels if self._labels is None else self._labels.repeat_interleave(steps)
        model = self if self.labels_given in (None, 1) else self.given(cast(Tensor, labels))
        return model.decode(model.project(codes.flatten(0, 1))).unflatten(0, codes.shape[:2])

    @torch.no_grad()
    def sample(
        self,
        count: int,
        generator: torch.Generator | None = None,
        labels: Tensor | int | None = None,
        *,
        prior: str | None = None,
    ) -> Tensor | None:
        """Images decoded from draws of a prior, as for any model: (count, C, H, W).

        ``labels`` are those of the images, or a single one; None takes the given ones, or draws them by their
        frequencies in training.
        """
        if labels is None and self._labels is None:
            device = self.device if generator is None else generator.device
            labels = torch.multinomial(self.label_frequency.to(device), count, replacement=True, generator=generator)
        model = self if labels is None else self.given(labels)
        if model.labels_given not in (1, count):
            raise ImageError(f"sample needs one label, or {count} for as many images, got {model.labels_given}")
        return super(Conditional, model).sample(count, generator, prior=prior)
