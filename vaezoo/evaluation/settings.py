"""Settings of an evaluation: sample sizes and seeds, which must be equal for models that are compared."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vaezoo.config import arguments
from vaezoo.config.validation import check_arguments, within

BOUNDS = {
    "seed": (0, 2**63 - 1),
    **dict.fromkeys(("images", "train_images", "samples"), (10, 10**7)),
    **{"k": (1, 10**6), "bound_images": (1, 10**7), "pairs": (2, 10**7), "paths": (1, 10**6), "steps": (3, 1000)},
    "dci_train": (2, 10**7),
    "perceptual_images": (2, 10**7),
}
"""Minimum and maximum of each setting."""


@dataclass(frozen=True)
class Settings:
    """Sample sizes are upper bounds: with fewer images, all are used; the actual size is recorded with each metric.

    Args:
        seed: seed of all draws, independent of the run's.
        images: test images.
        train_images: training images for the mixture, probes and disentanglement.
        k: importance samples per image.
        bound_images: test images for the importance-weighted bound; None for as many as ``BOUND_FLOPS`` allows, at
            least 500.
        samples: generated images per feature distance.
        pairs: interpolations whose midpoints are compared with test images.
        paths: interpolations whose steps are measured.
        steps: images per path.
        references: whether to evaluate PCA, an untrained encoder and the factors.
        disentanglement: whether to compute disentanglement scores, which takes minutes.
        dci_train: training images for DCI, which increases with them.
        perceptual_images: test images for perceptual distances, whose networks are slower than most models.
    """

    seed: int = 0
    images: int = 10_000
    train_images: int = 10_000
    k: int = 500
    bound_images: int | None = None
    samples: int = 10_000
    pairs: int = 5_000
    paths: int = 200
    steps: int = 17
    references: bool = True
    disentanglement: bool = True
    dci_train: int = 2_000
    perceptual_images: int = 1_000

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if getattr(self, name) is not None:
                within(getattr(self, name), least, most, f"evaluate.{name}")

    def as_dict(self) -> dict[str, Any]:
        """The settings as a dict of plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Options:
    """Options of ``vaezoo evaluate`` beside sample sizes.

    ``root`` is where the images are, and ``lpips_backbone`` a file with torchvision's weights of AlexNet or VGG16.
    """

    quick: bool = False
    device: str | None = None
    packages: Any = None
    lpips_backbone: str | None = None
    root: str | None = field(default=None, metadata={arguments.KEY: "data.root"})


FULL = Settings()
QUICK = Settings(
    images=1_000,
    train_images=2_000,
    k=50,
    bound_images=200,
    samples=1_000,
    pairs=500,
    paths=50,
    references=False,
    disentanglement=False,
    perceptual_images=64,
)
"""Evaluation at the end of training, which takes seconds."""

BOUND_FLOPS = 2e13
"""Budget of the importance-weighted bound in FLOPs, if ``bound_images`` is not set: minutes on a CPU."""


def read(words: Sequence[str]) -> tuple[Options, Settings]:
    """Parse ``KEY=VALUE`` words into options and sample sizes; ConfigError for invalid ones."""
    options, changes = arguments.read(words, Options, Settings, prefix="evaluate.")
    return Options(**options), with_changes(QUICK if options.get("quick") else FULL, changes)


def with_changes(settings: Settings, changes: dict[str, Any]) -> Settings:
    """A copy of the settings with changes; ConfigError for unknown names, wrong types or values out of bounds."""
    check_arguments(Settings, changes, key="evaluate")
    return replace(settings, **changes)
