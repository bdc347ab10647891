"""Fitting of a prior over indices, given the indices of training and validation images. It knows no autoencoder."""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import within
from vaezoo.nn.index_layout import IndexLayout
from vaezoo.nn.priors.indices import HEADS, IndexPrior, IndexTransformer

LEARNING_RATE, WARM_UP, CLIP = 2e-3, 100, 1.0
"""Of AdamW, steps to reach it, after which it falls to 0 as a cosine, and the largest norm of a gradient."""
WARM_UP_SHARE = 0.1
"""Maximum share of the steps in the warm-up, for short trainings."""
PATIENCE = 3
"""Epochs without a better rate on validation images, after which training ends."""

ROWS = 1000
"""Maximum number of validation images at once."""

BOUNDS = {
    "epochs": (1, 10**6),
    "width": (HEADS, 2**12),
    "layers": (1, 64),
    "batch_size": (1, 10**6),
    "seed": (0, 2**32 - 1),  # scikit-learn takes no larger one
}
"""Minimum and maximum of each setting."""
MOST_CODES, LONGEST = 2**16, 2**12
"""Maximum number of codes of a level, and of indices of an image."""


@dataclass(frozen=True)
class PriorSettings:
    """Settings of a fit; ConfigError for one out of range.

    Args:
        epochs: passes over the training images.
        width: features of a position in the transformer; layers: its blocks.
        batch_size: images per step.
        seed: of the initial weights and the order of images.
    """

    epochs: int = 5
    width: int = 64
    layers: int = 2
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            within(getattr(self, name), least, most, f"prior.{name}")
        if self.width % HEADS:
            raise ConfigError(f"prior.width must be a multiple of {HEADS}, got {self.width}")

    def as_dict(self) -> dict[str, Any]:
        """The settings as a dict of plain values."""
        return asdict(self)


def no_index_prior(layout: IndexLayout) -> str:
    """Why no prior can be fitted to such indices, or an empty string."""
    if max(layout.sizes) > MOST_CODES:
        return f"a prior is fitted to indices of at most {MOST_CODES:,} codes, and these have {max(layout.sizes):,}"
    if layout.length > LONGEST:
        return f"a prior is fitted to at most {LONGEST:,} indices of an image, and these are {layout.length:,}"
    return ""


def fit_index_prior(
    training: Callable[[int], Tensor],
    validation: Tensor,
    layout: IndexLayout,
    settings: PriorSettings,
    *,
    device: torch.device,
    step: Callable[[], None] = lambda: None,
    finished: Callable[[int, float], None] = lambda epoch, rate: None,
) -> tuple[IndexPrior, list[float]]:
    """Fit a prior to indices by maximum likelihood.

    The weights of the epoch with the lowest rate on validation images are kept; before the first, the prior is uniform.
    Deterministic for a seed on a CPU; global random state is neither read nor changed.

    Args:
        training: the indices of the training images in an epoch, from 0 up: (N, *layout.shape).
        validation: those of the validation images: (M, *layout.shape).
        layout: the grids and codebooks of the indices.
        device: where to compute.
        step: called after each optimiser step.
        finished: called after each epoch, from 0 up, with the rate on validation images.

    Returns:
        The prior, and the rate on validation images in nats per image, before training and after each epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = IndexTransformer(layout, width=settings.width, layers=settings.layers)
    network.to(device).train()
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    rates, taken = [_rate(network, validation, device)], 0
    best = copy.deepcopy(network.state_dict())
    for epoch in range(settings.epochs):
        known = training(epoch)
        batches = torch.randperm(len(known), generator=generator).split(settings.batch_size)
        for chosen in batches:
            optimizer.param_groups[0]["lr"] = learning_rate(taken, settings.epochs * len(batches))
            _descend(network, layout.sequences(known[chosen]).to(device), optimizer)
            taken += 1
            step()
        rates.append(_rate(network, validation, device))
        finished(epoch, rates[-1])
        if rates[-1] <= min(rates):
            best = copy.deepcopy(network.state_dict())
        elif epoch + 1 - rates.index(min(rates)) >= PATIENCE:
            break
    network.load_state_dict(best)
    return IndexPrior(network), rates


@torch.enable_grad()
def _descend(network: IndexTransformer, batch: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step on a batch of sequences (B, T), of which as many at once as fit into memory."""
    optimizer.zero_grad()
    for part in batch.split(network.rows):
        (-network.log_probs(part).sum() / batch.numel()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()


@torch.no_grad()
def _rate(network: IndexTransformer, indices: Tensor, device: torch.device) -> float:
    """Mean -log p(i) of indices, in nats per image."""
    parts = indices.split(min(network.rows, ROWS))
    total = sum(-network.log_probs(network.layout.sequences(part).to(device)).double().sum().item() for part in parts)
    return total / len(indices)


def learning_rate(at: int, steps: int) -> float:
    """The learning rate of a step, from 0 up, of so many: a linear warm-up, then a cosine to 0."""
    warm = max(1.0, min(WARM_UP, WARM_UP_SHARE * steps))
    return LEARNING_RATE * min(1.0, (at + 1) / warm) * 0.5 * (1 + math.cos(math.pi * at / steps))
