"""A small classifier of a data set's labels, whose features tell how alike images are."""

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.nn.networks import halvings

FEATURES = 64
FILTERS = 32
MOST_IMAGES = 20_000
MOST_PIXELS = 2**26
"""Maximum number of pixel values in training (256 MiB as float32): 5,461 images of 3x64x64."""
SEEN = 60_000
"""Images seen in training, counted with repetitions, unless this takes more than ``MOST_EPOCHS``."""
MOST_EPOCHS = 20
BATCH = 128
LEARNING_RATE = 3e-3
SEED = 0


def images_for(image_shape: Sequence[int]) -> int:
    """How many images of that shape a classifier is trained on."""
    return min(MOST_IMAGES, max(1, MOST_PIXELS // math.prod(image_shape)))


class Classifier(nn.Module):
    """Strided convolutions down to about 4x4 pixels, a layer of ``FEATURES`` features, and one linear head per factor.

    The output is the features (B, F), divided by one number so that their mean variance over training images is 1.
    ``filters`` are the channels of the third convolution from the end, or of the first if there are fewer; those before
    it have half as many, and those after it twice as many.
    """

    scale: Tensor

    def __init__(self, image_shape: Sequence[int], classes: Sequence[int], filters: int = FILTERS) -> None:
        super().__init__()
        channels, height, width = image_shape
        depth = halvings(image_shape)
        widths = [channels, *([filters // 2] * (depth - 3) + [filters, 2 * filters, 2 * filters][:depth])]
        stages: list[nn.Module] = []
        for before, after in pairwise(widths):
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        for _ in range(depth):
            height, width = -(-height // 2), -(-width // 2)
        self.body = nn.Sequential(*stages, nn.Flatten(), nn.Linear(widths[-1] * height * width, FEATURES), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(FEATURES, count) for count in classes)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.body(pixels)
        return features * self.scale

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """The features (B, C, h, w) after each convolution."""
        found, hidden = [], pixels
        for layer in self.body:
            hidden = layer(hidden)
            if isinstance(layer, nn.ReLU) and hidden.dim() == 4:
                found.append(hidden)
        return found

    def loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats, mean over images and factors; labels (B, F)."""
        features = self(pixels)
        return torch.stack([F.cross_entropy(head(features), labels[:, k]) for k, head in enumerate(self.heads)]).mean()

    def hits(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Whether each factor is predicted correctly: labels (B, F) -> (B, F) booleans."""
        features = self(pixels)
        return torch.stack([head(features).argmax(1) for head in self.heads], dim=1) == labels


def train_classifier(
    image_shape: Sequence[int],
    classes: Sequence[int],
    pixels: Tensor,
    labels: Tensor,
    *,
    seed: int = SEED,
    filters: int = FILTERS,
) -> Classifier:
    """Train a classifier on pixels (N, C, H, W) and labels (N,) or (N, F); returned in evaluation mode, on the CPU.

    Global random state is neither read nor changed.
    """
    labels = labels.reshape(len(labels), -1)
    epochs = min(MOST_EPOCHS, math.ceil(SEEN / len(pixels)))
    batches = math.ceil(len(pixels) / BATCH)
    generator = torch.Generator().manual_seed(seed)
    network = untrained(image_shape, classes, seed=seed, filters=filters)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * batches)
    with torch.enable_grad():
        for _ in range(epochs):
            for chosen in torch.randperm(len(pixels), generator=generator).split(BATCH):
                optimizer.zero_grad()
                network.loss(pixels[chosen], labels[chosen]).backward()
                optimizer.step()
                schedule.step()
    network.eval()
    _rescale(network, pixels)
    return network


def untrained(
    image_shape: Sequence[int], classes: Sequence[int], *, seed: int = SEED, filters: int = FILTERS
) -> Classifier:
    """A classifier with the weights that training begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(image_shape, classes, filters)


@torch.no_grad()
def _rescale(network: Classifier, pixels: Tensor) -> None:
    """Scale features to a mean variance of 1, so that distances are comparable, and adjust the heads to match."""
    features = torch.cat([network(part) for part in pixels.split(BATCH)]).double()
    spread = features.var(0, correction=0).mean().sqrt().clamp(min=1e-6)
    network.scale.copy_(1 / spread)
    for head in network.heads:
        head.weight.mul_(spread)  # type: ignore[operator]


@torch.no_grad()
def score(network: Classifier, pixels: Tensor, labels: Tensor) -> float:
    """Accuracy averaged over images and factors; pixels (N, C, H, W), labels (N,) or (N, F)."""
    parts = zip(pixels.split(BATCH), labels.reshape(len(labels), -1).split(BATCH), strict=True)
    return float(torch.cat([network.hits(x, y) for x, y in parts]).double().mean())


def digest(network: nn.Module) -> str:
    """The start of a hash of a network's weights."""
    found = hashlib.blake2b(digest_size=6)
    for name, values in network.state_dict().items():
        found.update(name.encode())
        found.update(values.cpu().numpy().tobytes())
    return found.hexdigest()
