"""Feature extractors for distances between sets of images: a classifier trained on the data set, and Inception v3."""

import hashlib
import logging
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.data import ImageDataModule
from vaezoo.nn.classifier import Classifier, digest, images_for, score, train_classifier, untrained
from vaezoo.runs.checkpoints import check_archive

logger = logging.getLogger(__name__)

RECIPE = 1
"""Version of the training procedure; increase it with every change that results in other weights."""


@dataclass(frozen=True)
class FeatureExtractor:
    """A network that maps images to features; ``version`` is a hash of its weights.

    ``accuracy`` is the classifier's on test images, averaged over factors; None for Inception. ``protocol`` says how a
    published network is used.
    """

    name: str
    network: nn.Module
    version: str
    accuracy: float | None = None
    batch: int = 500
    protocol: str = ""

    @torch.no_grad()
    def extract(self, pixels: Tensor) -> Tensor:
        """Features of pixels in [0, 1]: (B, C, H, W) on any device -> (B, F) on the CPU."""
        device = next(self.network.parameters()).device
        parts = [self.network(part.to(device, torch.float32)).cpu() for part in pixels.split(self.batch)]
        return torch.cat(parts)

    def to(self, device: torch.device | str) -> Self:
        """Move the network to ``device``; returns itself."""
        self.network.to(device)
        return self


# classifier ----------------------------------------------------------------------------------------------------------


def classifier_features(datamodule: ImageDataModule, cache_dir: Path) -> FeatureExtractor | str:
    """Features of a small classifier of the data set's labels, or the reason why there is none.

    It is trained once, on the CPU, with a seed and settings that depend only on the data, and cached in
    ``cache_dir/classifiers``. Global random state is neither read nor changed.
    """
    datamodule.setup()
    classes = [len(factor.values) for factor in datamodule.factors]
    if not any(count > 1 for count in classes):
        return f"{datamodule.name} has no labels to train a classifier on"
    count = images_for(datamodule.image_shape)
    pixels, labels = datamodule.examples(min(count, 64), "train")
    if (labels < 0).any():
        return f"some images of {datamodule.name} have no label to train a classifier on"
    key = _key(datamodule, pixels, labels)
    path = cache_dir / "classifiers" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', str(datamodule.name))[:50]}-{key}.pt"
    network = untrained(datamodule.image_shape, classes)
    accuracy = _load(path, network)
    if accuracy is None:
        train, test = datamodule.examples(count, "train"), datamodule.examples(count, "test")
        if min(int(split[1].min()) for split in (train, test)) < 0:
            return f"some images of {datamodule.name} have no label to train a classifier on"
        network = train_classifier(datamodule.image_shape, classes, *train)
        accuracy = score(network, *test)
        _save(path, network, accuracy)
    network.eval().requires_grad_(False)
    return FeatureExtractor("classifier", network, digest(network), accuracy)


def _key(datamodule: ImageDataModule, pixels: Tensor, labels: Tensor) -> str:
    """Hash of what the classifier depends on: recipe, splits, factors and, as names may be shared, some images."""
    description = datamodule.describe()
    description.pop("skipped", None)  # grows while images are read
    parts = (RECIPE, sorted(description.items()), tuple(datamodule.image_shape), datamodule.factors)
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8)
    digest.update(pixels.mul(255).round().byte().numpy().tobytes())
    digest.update(labels.numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, network: Classifier) -> float | None:
    """Load the network's weights from the cache; returns its accuracy, or None if the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        check_archive(path)
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(kept["network"])
        return float(kept["accuracy"])
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        logger.warning("%s is damaged (%s); the classifier is trained again", path, reason)
        return None


def _save(path: Path, network: Classifier, accuracy: float) -> None:
    """Write to a temporary file and rename it, since another process may write the same file."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"network": network.state_dict(), "accuracy": accuracy}, file)
        temporary.replace(path)
    except OSError as error:
        logger.warning("the classifier cannot be cached in %s (%s) and is trained again each time", path.parent, error)
        with suppress(OSError):  # its folder may not exist
            temporary.unlink()


# Inception -----------------------------------------------------------------------------------------------------------

INCEPTION_FILE = "inception_v3_google-0cc3c7bd.pth"
"""torchvision's name for the weights of Szegedy et al. (2016) on ImageNet; it ends in the start of their SHA-256."""


PROTOCOL = "torchvision's weights, 299 pixels by bilinear interpolation with antialiasing"


class Inception(nn.Module):
    """torchvision's Inception v3 up to the 2,048 pooled features; images of any size with 1 or 3 channels."""

    def __init__(self) -> None:
        from torchvision.models import inception_v3

        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.body = inception_v3(weights=None, init_weights=False, transform_input=False, aux_logits=True)

    def forward(self, pixels: Tensor) -> Tensor:
        colour = pixels.expand(-1, 3, -1, -1)
        large = F.interpolate(colour, (299, 299), mode="bilinear", antialias=True, align_corners=False)
        features: Tensor = self.body(2 * large - 1)  # what its weights were trained on
        return features


def inception_features(folder: Path | None = None, channels: int = 3) -> FeatureExtractor | str:
    """Features of Inception v3 (Szegedy et al., 2016) of images of so many channels, or the reason why there are none.

    The weights are read from ``folder``, by default torch's own, and never downloaded. They are torchvision's, not the
    TensorFlow weights of 2015 behind most published Frechet inception distances: do not compare with those.
    """
    if channels not in (1, 3):
        return f"Inception is for images of 1 or 3 channels, and these have {channels}"
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / INCEPTION_FILE
    if not path.is_file():
        return f"no Inception weights on this machine; to use them, put torchvision's {path.name} into {path.parent}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        return f"the Inception weights in {path} are damaged; download them again"
    network = Inception()
    network.body.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.body.fc = nn.Identity()
    return FeatureExtractor("inception", network.eval().requires_grad_(False), digest[:12], batch=32, protocol=PROTOCOL)
