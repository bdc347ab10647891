"""Inputs of an evaluation, the same for every model: images, pairs and feature extractors."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError, DataError
from vaezoo.config.shapes import NOT_IMAGES, is_table
from vaezoo.data import ImageDataModule
from vaezoo.evaluation.features import FeatureExtractor, classifier_features, inception_features
from vaezoo.evaluation.settings import Settings
from vaezoo.metrics.paths import choose_pairs
from vaezoo.nn.perceptual import make_perceptual
from vaezoo.nn.perceptual.base import PerceptualDistance

FEWEST = 10
"""Minimum number of images: with fewer, neighbours, covariances and probes are meaningless."""

CHUNK = 250
"""Images per forward pass."""


def cache_dir() -> Path:
    """Cache folder of feature classifiers: VAEZOO_CACHE, or ~/.cache/vaezoo."""
    return Path(os.environ.get("VAEZOO_CACHE", Path.home() / ".cache" / "vaezoo"))


@dataclass
class Inputs:
    """Test and training images of a data set, (N, C, H, W) on the CPU, and what is derived from them.

    ``lpips_backbone`` is a file with torchvision's weights of AlexNet or VGG16; None for torch's own folder.

    Raises DataError with fewer than ``FEWEST`` images.
    """

    data: ImageDataModule
    settings: Settings
    device: torch.device
    lpips_backbone: str | None = None
    test: Tensor = field(init=False)
    test_labels: Tensor = field(init=False)
    train: Tensor = field(init=False)
    train_labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.data.prepare_data()
        self.data.setup()
        self.test, self.test_labels = self.data.examples(self.settings.images, "test")
        self.train, self.train_labels = self.data.examples(self.settings.train_images, "train")
        if min(len(self.test), len(self.train)) < FEWEST:
            raise DataError(
                f"an evaluation needs at least {FEWEST} training and {FEWEST} test images, got"
                f" {len(self.train)} and {len(self.test)}; add images or set data.test_size"
            )

    @property
    def labelled(self) -> bool:
        """Whether every image has a label."""
        return bool((self.test_labels >= 0).all() and (self.train_labels >= 0).all())

    @cached_property
    def extractors(self) -> dict[str, FeatureExtractor | str]:
        """Feature extractors by name, or the reason why one is not available."""
        if is_table(self.data.image_shape):
            return dict.fromkeys(("classifier", "inception"), NOT_IMAGES)
        inception = inception_features(channels=self.data.image_shape[0])
        found = {"classifier": classifier_features(self.data, cache_dir()), "inception": inception}
        return {name: one if isinstance(one, str) else one.to(self.device) for name, one in found.items()}

    @cached_property
    def distances(self) -> dict[str, PerceptualDistance | str]:
        """Perceptual distances by the name of their metric, or the reason why one is not available."""
        backbone = {} if self.lpips_backbone is None else {"backbone": self.lpips_backbone}
        return {
            "perceptual_lite0": self._first_distance("lite0"),
            "lpips": self._first_distance("lpips_alex", "lpips_vgg", **backbone),
        }

    def _first_distance(self, *names: str, **options: str) -> PerceptualDistance | str:
        """The first of these distances for which this machine has the weights, else why it does not have the first."""
        reasons = []
        for name in names:
            try:
                distance = make_perceptual(name, self.data.image_shape, options)
                distance.read_weights()
            except ConfigError as error:
                reasons.append(str(error))
            else:
                return distance
        return reasons[0]

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Positions of the first and last test images of the interpolations: (P,) each."""
        chosen = choose_pairs(self.test_labels, self.settings.pairs, seed=self.settings.seed)
        start, end = torch.tensor(chosen).T
        return start, end

    def generator(self) -> torch.Generator:
        """A new generator of random numbers on the CPU, with the evaluation's seed."""
        return torch.Generator().manual_seed(self.settings.seed)

    def first_posterior(self, subject: Any) -> Any:
        """The posterior of one image, which shows whether there is one and of which family; None without one."""
        with torch.no_grad():
            return subject.given(self.test_labels[:1]).posterior(self.test[:1].to(self.device))

    def features(self, extractor: FeatureExtractor, images: Iterable[Tensor]) -> Tensor:
        """Features of images in chunks (B, C, H, W): (N, F) on the CPU."""
        return torch.cat([extractor.extract(chunk.to(self.device)) for chunk in images])

    def real_features(self, name: str, split: str) -> Tensor:
        """Features of the images of split "test" or "train", (N, F); cached."""
        key = (name, split)
        if key not in self._real:
            extractor = self.extractors[name]
            assert isinstance(extractor, FeatureExtractor)
            self._real[key] = self.features(extractor, getattr(self, split).split(CHUNK))
        return self._real[key]

    @cached_property
    def _real(self) -> dict[tuple[str, str], Tensor]:
        return {}

    def chunks(self, subject: Any, split: str = "test") -> Iterator[tuple[Any, Tensor]]:
        """The images of a split in chunks on the device, each with the subject given its labels."""
        return self.given(subject, getattr(self, split), getattr(self, f"{split}_labels"))

    def given(self, subject: Any, rows: Tensor, labels: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Images or codes in chunks on the device, each with the subject given its labels."""
        for part, of_part in zip(rows.split(CHUNK), labels.split(CHUNK), strict=True):
            yield subject.given(of_part), part.to(self.device)

    def encode(self, subject: Any, split: str = "test") -> Tensor:
        """Codes of the images of a split, (N, D) on the CPU."""
        return self.map_given(subject, lambda seen, x: seen.encode(x), split)

    def map_given(self, subject: Any, function: Callable[[Any, Tensor], Tensor], split: str = "test") -> Tensor:
        """Apply a function of the subject, given labels, and images to a split; the result is on the CPU."""
        with torch.no_grad():
            return torch.cat([function(seen, x).cpu() for seen, x in self.chunks(subject, split)])

    def map(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Apply a function to images in chunks on the device; the result is on the CPU."""
        with torch.no_grad():
            return torch.cat([function(chunk.to(self.device)).cpu() for chunk in images.split(CHUNK)])
