"""Losses of a critic, and of what tries to deceive it, as functions of each logit."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

LossName = Literal["hinge", "nonsaturating", "least_squares"]


class AdversarialLoss(NamedTuple):
    """What a critic minimises is the mean of ``of_real`` over logits of real examples, plus that of ``of_fake``; what
    is trained against it minimises the mean of ``generator`` over logits of fakes. Elementwise.
    """

    of_real: Callable[[Tensor], Tensor]
    of_fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


HINGE = AdversarialLoss(lambda logit: F.relu(1 - logit), lambda logit: F.relu(1 + logit), lambda logit: -logit)
"""Lim and Ye (2017). Without any evidence, the critic's loss is 2."""

NONSATURATING = AdversarialLoss(lambda logit: F.softplus(-logit), F.softplus, lambda logit: F.softplus(-logit))
"""Cross-entropies in nats (Goodfellow et al., 2014). Without any evidence, the critic's loss is 2 log 2 = 1.386."""

LEAST_SQUARES = AdversarialLoss(
    lambda logit: 0.5 * (logit - 1).square(),
    lambda logit: 0.5 * logit.square(),
    lambda logit: 0.5 * (logit - 1).square(),
)
"""Mao et al. (2017). Without any evidence, logits are 1/2 and the critic's loss is 1/4."""

LOSSES: dict[str, AdversarialLoss] = {
    "hinge": HINGE,
    "nonsaturating": NONSATURATING,
    "least_squares": LEAST_SQUARES,
}
