"""What all discriminators of images offer: the term of a model that is trained against one, and the critic's loss."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import at_least
from vaezoo.nn.adversarial_losses import LOSSES, LossName
from vaezoo.nn.critics import checked_settings, judge
from vaezoo.nn.discriminators.balance import gradient_ratio, largest_ratio
from vaezoo.nn.networks import last_weight
from vaezoo.nn.penalties.base import Encoded, Penalty, pixels_of

OPTIONS = "model.discriminator_options"


class Discriminator(Penalty):
    """A critic that tells decoded from real images, and the term ``generator`` by which the decoder deceives it.

    Losses are means over the logits of an image, so that ``weight`` does not depend on the size of images.

    Args:
        weight: of the term, with balance ``gradient`` relative to the reconstruction term; ``balance``: whether the
            term is also multiplied by the ratio of gradients at the decoder's last layer (see ``balance``).
        start: optimiser steps before the term and the critic's training begin; below 1 a share of the run. Both losses
            are logged from the first step.
        loss: see ``vaezoo.nn.adversarial_losses``.
        r1: gamma of the penalty gamma/2 |d logit/d x|^2 on real images (Mescheder et al., 2018), of the mean logit.
        lr, betas: of the critic's Adam.

    Raises:
        ConfigError: an argument is out of range.
    """

    label = "generator"
    key = OPTIONS
    needs_pixels = True
    critic: nn.Module
    ratio: Tensor
    """The last ratio of gradients in training, which evaluation uses."""

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        weight: float = 0.5,
        start: float = 0.1,
        loss: LossName = "hinge",
        balance: Literal["gradient", "none"] = "gradient",
        r1: float = 0.0,
        lr: float = 1e-3,
        betas: Sequence[float] = (0.5, 0.9),
    ) -> None:
        super().__init__(weight)
        at_least(start, 0, f"{OPTIONS}.start")
        at_least(r1, 0, f"{OPTIONS}.r1")
        if start >= 1 and start != int(start):
            raise ConfigError(f"{OPTIONS}.start must be a number of steps, or a share of the run below 1, got {start}")
        self.pixels, self.start = math.prod(image_shape), start
        self.first_step = math.inf if 0 < start < 1 else int(start)
        self.loss, self.balances, self.r1 = LOSSES[loss], balance == "gradient", r1
        self.critic_settings = checked_settings(lr, betas, OPTIONS)
        if self.balances:
            self.register_buffer("ratio", torch.zeros(()))

    # when it begins --------------------------------------------------------------------------------------------------

    def plan(self, steps: int) -> None:
        """Set the step at which it begins in a run of so many optimiser steps, 0 for an unlimited one.

        ConfigError if that is never, or unknown.
        """
        if 0 < self.start < 1 and not steps:
            raise ConfigError(
                f"{OPTIONS}.start={self.start:g} is a share of the run, which has no end; set a number of steps, or"
                " trainer.max_epochs or trainer.max_steps"
            )
        if math.isinf(self.first_step):
            self.first_step = round(self.start * steps)
        if steps and self.first_step >= steps:
            raise ConfigError(
                f"{OPTIONS}.start={self.start:g} is after the last of the run's {steps:,} steps, so that its critic"
                " would never be trained; set a smaller one, or model.discriminator=null"
            )

    def planned(self) -> dict[str, float]:
        return {"start": self.start, "first_step": self.first_step}

    def resume(self, planned: Mapping[str, float]) -> None:
        """A share of the run is that of the run as it was first planned, even if it has become longer since."""
        if planned.get("start") == self.start:
            self.first_step = planned["first_step"]

    def weights(self, step: int) -> dict[str, float]:
        """The weight of the term, without the ratio, at an optimiser step."""
        return {f"{self.label}_weight": 0.0 if self.waits(step) else self.weight}

    def waits(self, step: int) -> bool:
        return step < self.first_step

    # losses ----------------------------------------------------------------------------------------------------------

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        pixels = pixels_of(seen) if seen.fakes is None else seen.fakes
        generator = self.loss.generator(judge(self.critic, pixels, frozen=True))
        critic = self.critic_loss(seen.x, pixels.detach()) if self.training else None
        return _sum_of_fakes(_of_images(generator), len(seen.x)), critic

    def features(self, x: Tensor) -> Tensor:
        """What the critic makes of images before its last layer, without gradients for the critic: (B, ...)."""
        raise NotImplementedError

    def critic_loss(self, x: Tensor, fakes: Tensor) -> Tensor:
        """What the critic minimises for real images and K fakes of each: (B, C, H, W) and (K B, C, H, W) -> (B,)."""
        real, fake = judge(self.critic, torch.cat([x, fakes])).split([len(x), len(fakes)])
        loss = _of_images(self.loss.of_real(real)) + _sum_of_fakes(_of_images(self.loss.of_fake(fake)), len(x))
        return loss + self.r1 / 2 * self.squared_slope(x) if self.r1 else loss

    def squared_slope(self, x: Tensor) -> Tensor:
        """|d D/d x|^2 of the mean logit D of each image, differentiable: (B, C, H, W) -> (B,)."""
        x = x.detach().requires_grad_()
        logits = _of_images(judge(self.critic, x))
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return slope.square().flatten(1).sum(1)

    def weigh(
        self, term: Tensor, weights: Mapping[str, float | Tensor], of_pixels: Tensor, decoder: nn.Module
    ) -> Tensor:
        weight = weights[f"{self.label}_weight"]
        if isinstance(weight, float) and not weight:
            return 0 * term.detach()
        if not self.balances:
            return weight * term
        if self.training and torch.is_grad_enabled():
            self.ratio.copy_(gradient_ratio(of_pixels, term, last_weight(decoder), self.pixels))
        return weight * self.ratio * term

    # in words --------------------------------------------------------------------------------------------------------

    def explain(self) -> list[str]:
        return ["weights: the last ones are used, because recon gets worse as decoded images get more like real ones"]

    def formula(self) -> str:
        begins = f"{100 * self.start:g}% of the run" if 0 < self.start < 1 else f"step {int(self.start):,}"
        ratio, when = "ratio " if self.balances else "", f" (from {begins} on)" if self.start else ""
        return f"{self.weight:g} {ratio}{self.label}{when}"

    def statistics(self) -> dict[str, Tensor]:
        return {"ratio": self.ratio} if self.balances else {}

    def complaint(self) -> str | None:
        if not self.balances or self.ratio < largest_ratio(self.pixels):
            return None
        return (
            f"the weight of {self.label} is at its largest, {largest_ratio(self.pixels):,.0f}, because its gradient has"
            f" vanished: the critic is sure of every image; a smaller {OPTIONS}.lr, or r1 above 0, can help"
        )

    def no_compile(self) -> str | None:
        """The option that torch.compile cannot deal with, and its remedy; None if there is none."""
        if self.balances:
            return f"{OPTIONS}.balance=gradient takes gradients within a step; set it to none"
        return f"{OPTIONS}.r1={self.r1:g} is differentiated twice; set it to 0" if self.r1 else None


def _of_images(losses: Tensor) -> Tensor:
    """The mean over the logits of each image: (B, ...) -> (B,)."""
    return losses.flatten(1).mean(1)


def _sum_of_fakes(losses: Tensor, images: int) -> Tensor:
    """The sum over the K fakes of each image: (K B,) -> (B,)."""
    return losses.view(-1, images).sum(0)
