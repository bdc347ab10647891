"""How much an evaluation measures: sample sizes and seeds, the same for every model that is to be compared."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vaezoo.config.arguments import KEY
from vaezoo.config.validation import check_arguments, within

BOUNDS = {
    "seed": (0, 2**63 - 1),
    **dict.fromkeys(("images", "train_images", "samples"), (10, 10**7)),
    **{"k": (1, 10**6), "bound_images": (1, 10**7), "pairs": (2, 10**7), "paths": (1, 10**6), "steps": (3, 1000)},
    "dci_train": (2, 10**7),
}
"""From where to where each size may be: fewer measure nothing, and more would take years or all memory."""


@dataclass(frozen=True)
class Settings:
    """Sample sizes are upper bounds: where there are fewer images, all are used, and their number stands by the result.

    Args:
        seed: of all draws; it does not depend on the run's own.
        images: test images. train_images: training images, for mixture, probes and disentanglement.
        k: draws of the importance-weighted bound; bound_images: test images that it is taken over, None for as many
            as ``BOUND_FLOPS`` operations allow, 500 at least.
        samples: generated images for each feature distance.
        pairs: interpolations whose midpoints are compared; paths: those that are followed, in ``steps`` steps.
        references: whether PCA, an untrained encoder and the factors are measured too.
        disentanglement: whether the scores for known factors are taken, which need minutes.
        dci_train: training images for DCI, which rises with them.
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

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            if getattr(self, name) is not None:
                within(getattr(self, name), least, most, f"evaluate.{name}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the record."""
        return asdict(self)


@dataclass(frozen=True)
class Words:
    """What the command evaluate takes beside sample sizes."""

    quick: bool = False
    device: str | None = None
    packages: Any = None
    root: str | None = field(default=None, metadata={KEY: "data.root"})


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
)
"""What every training ends with: seconds, to see where a model stands."""

BOUND_FLOPS = 2e13
"""Operations that the importance-weighted bound may take unless its images are set: minutes on a processor."""


def with_changes(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with some set anew; ConfigError for unknown names, wrong types or impossible values."""
    check_arguments(Settings, changes, key="evaluate")
    return replace(settings, **changes)
