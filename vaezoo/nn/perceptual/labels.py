"""Distance in features of a classifier that learns the labels of the training images."""

from collections.abc import Callable

from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.nn.classifier import Classifier, digest, images_for, train_classifier
from vaezoo.nn.perceptual.base import FeatureDistance

SEED, FILTERS = 1, 48
"""Others than those of the classifier that measures Frechet distances, which would judge what it taught."""


class LabelFeatures(FeatureDistance):
    """Distance in features of a small classifier of the data's own labels; of the form of LPIPS, with equal weights.

    It is trained when a training starts, from up to 20,000 training images, with a seed of its own, so that a resumed
    run has the same one. It needs no file, but says nothing of what the labels do not depend on.
    """

    name = "classifier"
    channels = None

    def read_weights(self) -> None:
        """Nothing: ``learn`` makes the network."""

    def learn(self, examples: Callable[[int, str], tuple[Tensor, Tensor]]) -> None:
        if self._network:
            return
        pixels, labels = examples(images_for(self.image_shape), "train")
        labels = labels.reshape(len(labels), -1)
        if not len(labels) or int(labels.min()) < 0 or int(labels.max()) < 1:
            raise ConfigError(
                "model.perceptual=classifier needs training images with labels of at least two classes, which these do"
                " not have; use lite0 or ms_ssim"
            )
        classes = (labels.max(0).values + 1).tolist()
        network = train_classifier(self.image_shape, classes, pixels, labels, seed=SEED, filters=FILTERS)
        self._network = (Maps(network).eval().requires_grad_(False),)

    def make_network(self) -> tuple[nn.Module, None]:
        raise ConfigError(
            "model.perceptual=classifier compares features of a classifier that is made when a training starts; call"
            " model.perceptual.learn(datamodule.examples) to use it before"
        )

    @property
    def version(self) -> str:
        return digest(self._network[0]) if self._network else ""

    def describe(self) -> str:
        made = f", weights {self.version}" if self._network else ""
        return f"features of a classifier of the labels, equal weights{made}"


class Maps(nn.Module):
    """The features of a classifier after each of its convolutions."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.classifier.maps(pixels)
