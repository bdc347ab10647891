"""What all terms that are added to an objective offer. They know no encoders."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.distributed import batch_shares
from vaezoo.nn.posteriors.base import Moments, Posterior
from vaezoo.nn.priors.base import Prior

OPTIONS = "model.penalty_options"


class Encoded(NamedTuple):
    """What a penalty may look at: images (B, C, H, W), their codes (B, D) with noise, and what belongs to them.

    ``images`` is the size of the training set, None for that of the batch. ``encode`` maps images to codes without
    noise. ``pixels`` (B, C, H, W) in [0, 1] are decoded from the codes, for parts that need them. ``fakes``
    (K B, C, H, W) are what a discriminator sees instead, if it should. All are differentiable.
    """

    x: Tensor
    code: Tensor
    posterior: Posterior | None = None
    prior: Prior | None = None
    images: int | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    pixels: Tensor | None = None
    fakes: Tensor | None = None


class Penalty(nn.Module):
    """A term of the objective with the weight ``weight`` and the name ``label``.

    ``is_batch_statistic`` marks biased estimates that are only meaningful in training, of a batch or by a critic;
    ``is_unbiased_statistic`` those of a batch whose expectation is the same at every batch size. ``needs_moments``: the
    posterior must have independent Gaussian dimensions; ``needs_prior``: codes are compared with draws of the prior;
    ``needs_pixels``: images are compared with the pixels decoded from the codes.
    ``critic_settings`` are the optimiser's settings for the parameters of ``critic``; empty without one. ``key`` is
    that of its options in the config. ConfigError for a negative weight.
    """

    label = "penalty"
    key = OPTIONS
    is_batch_statistic = False
    is_unbiased_statistic = False
    needs_moments = False
    needs_prior = False
    needs_pixels = False

    def __init__(self, weight: float) -> None:
        super().__init__()
        at_least(weight, 0, f"{self.key}.weight")
        self.weight = float(weight)
        self.critic_settings: dict[str, Any] = {}

    def read_weights(self) -> None:
        """Read the pretrained weights that the term needs; ConfigError if this machine does not have them."""

    def learn(self, examples: Callable[[int, str], tuple[Tensor, Tensor]]) -> None:
        """Learn what the term needs before training, from images of a split, (N, C, H, W), and their labels, (N,) or
        (N, F): ``examples(count, "train")`` gives the first of them; ConfigError if it cannot."""

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        """The unweighted penalty (B,), and in training the loss of the critic (B,) if there is one."""
        raise NotImplementedError

    def weigh(
        self, term: Tensor, weights: Mapping[str, float | Tensor], of_pixels: Tensor, decoder: nn.Module
    ) -> Tensor:
        """The weighted term (B,), given what the objective has so far to compare pixels, (B,)."""
        return self.weight * term

    def formula(self) -> str:
        """The weighted term as text, such as ``5 tc``."""
        return f"{self.weight:g} {self.label}"

    def explain(self) -> list[str]:
        """Sentences on what the term means, for the head of a run."""
        return []

    def plan(self, steps: int) -> None:
        """Prepare for a run of so many optimiser steps, 0 for an unlimited one."""

    def planned(self) -> dict[str, float]:
        """What ``resume`` needs, for checkpoints: plain values."""
        return {}

    def resume(self, planned: Mapping[str, float]) -> None:
        """Take over what was planned before a run was resumed; ``plan`` is called after it."""

    def weights(self, step: int) -> dict[str, float]:
        """Weights that change during training, at an optimiser step, by name."""
        return {}

    def waits(self, step: int) -> bool:
        """Whether the critic is not trained yet at an optimiser step."""
        return False

    def statistics(self) -> dict[str, Tensor]:
        """Numbers () that are logged in training, by name."""
        return {}

    def complaint(self) -> str | None:
        """What is wrong with the training of the term, and the remedy; None if nothing is."""
        return None

    def no_compile(self) -> str | None:
        """Why torch.compile cannot deal with the term, and the remedy; None if it can."""
        return None


def of_batch(statistic: Tensor, seen: Encoded) -> Tensor:
    """A statistic of the whole batch, (), as the penalty of each image of this share: (B,)."""
    return batch_shares.statistic(statistic).expand(len(seen.code))


def draws_of_prior(prior: Prior, code: Tensor, count: int) -> Tensor:
    """Codes (count, D) of the prior, of the type of ``code``, without gradients.

    The global generator draws them, whose state is equal on all ranks, so that ``count`` must be that of the whole
    batch. A learned prior is not drawn towards the codes by a penalty; the KL divergence does that.
    """
    return prior.sample(count).detach().to(code.dtype)


def own_draws(prior: Prior, code: Tensor) -> Tensor:
    """As many codes of the prior as there are in this share of the batch, (B, D), without gradients."""
    return batch_shares.own_rows(draws_of_prior(prior, code, batch_shares.size_of_whole(len(code))), len(code))


def moments_of(seen: Encoded, name: str) -> Moments:
    moments = None if seen.posterior is None else seen.posterior.moments()
    if moments is None:
        raise ConfigError(
            f"model.penalty={name} needs a posterior with independent Gaussian dimensions, got another one; choose"
            " model.posterior=diagonal"
        )
    return moments


def prior_of(seen: Encoded) -> Prior:
    """The prior that codes are compared with, of a part that ``needs_prior``."""
    assert seen.prior is not None
    return seen.prior


def pixels_of(seen: Encoded) -> Tensor:
    """The pixels that are compared with the images, of a part that ``needs_pixels``."""
    assert seen.pixels is not None
    return seen.pixels
