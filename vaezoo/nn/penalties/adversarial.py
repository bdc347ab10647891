"""Penalties by critics of codes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.config.validation import at_least
from vaezoo.distributed import batch_shares
from vaezoo.nn.adversarial_losses import NONSATURATING
from vaezoo.nn.critics import checked_settings, density_ratio, judge, mlp_critic
from vaezoo.nn.penalties.base import OPTIONS, Encoded, Penalty, own_draws, prior_of


def permuted(code: Tensor) -> Tensor:
    """Each dimension of the codes of the whole batch in a random order of its own: (B, D) -> (B, D), detached.

    Orders are drawn by the global generator, whose state is equal on all ranks. Collective within a share.
    """
    everything = batch_shares.whole_batch(code.detach())
    orders = torch.rand(everything.shape, device=everything.device).argsort(0)
    return batch_shares.own_rows(everything.gather(0, orders), len(code))


def critic_loss(joint: Tensor, product: Tensor) -> Tensor:
    """Cross-entropy of a critic, half for each class, in nats: logits (B, 2) twice -> (B,). Kim and Mnih (2018).

    Logit 0 stands for codes as they are, logit 1 for codes with permuted dimensions. It is log 2 without any evidence.
    """
    return 0.5 * (F.softplus(-density_ratio(joint)) + F.softplus(density_ratio(product)))


class _WithCritic(Penalty):
    """A penalty by a critic of codes with ``logits`` outputs, hidden layers of ``widths``, and Adam's ``lr`` and
    ``betas``. The penalty moves the encoder only, the critic's loss the critic only. ConfigError for invalid settings.
    """

    is_batch_statistic = True
    logits: int

    def __init__(
        self,
        latent_dim: int,
        *,
        weight: float,
        widths: Sequence[int] = (256,) * 3,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.5, 0.9),
    ) -> None:
        super().__init__(weight)
        for width in widths:
            at_least(width, 1, f"each of {OPTIONS}.widths")
        self.critic = mlp_critic(latent_dim, widths, self.logits)
        self.critic_settings = checked_settings(lr, betas, OPTIONS)


class CriticTC(_WithCritic):
    """FactorVAE (Kim and Mnih, 2018): the total correlation by a critic that tells codes from permuted ones.

    The paper's critic has six layers of 1000, which are slow on a CPU.
    """

    label = "tc"
    logits = 2

    def __init__(self, latent_dim: int, *, weight: float = 35.0, **critic: Any) -> None:
        super().__init__(latent_dim, weight=weight, **critic)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = seen.code
        penalty = density_ratio(judge(self.critic, code, frozen=True))
        if not self.training:
            return penalty, None
        joint, product = judge(self.critic, torch.cat([code.detach(), permuted(code)])).chunk(2)
        return penalty, critic_loss(joint, product)


class Adversarial(_WithCritic):
    """Adversarial autoencoder (Makhzani et al., 2016): a critic tells codes from new draws of the prior.

    The penalty is -log of the probability that the critic gives a code of being such a draw (non-saturating). Its loss
    is the sum of two cross-entropies, 2 log 2 = 1.386 without any evidence.
    """

    label = "adversarial"
    needs_prior = True
    logits = 1

    def __init__(self, latent_dim: int, *, weight: float = 1.0, **critic: Any) -> None:
        super().__init__(latent_dim, weight=weight, **critic)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = seen.code
        penalty = NONSATURATING.generator(judge(self.critic, code, frozen=True))[:, 0]
        if not self.training:
            return penalty, None
        draws = own_draws(prior_of(seen), code)
        of_draws, of_codes = judge(self.critic, torch.cat([draws, code.detach()]))[:, 0].chunk(2)
        return penalty, NONSATURATING.of_real(of_draws) + NONSATURATING.of_fake(of_codes)
