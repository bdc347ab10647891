"""Penalties on codes that are added to a training objective. They know no encoders."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.choices import PENALTIES
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above, at_least, check_arguments
from vaezoo.distributed import batch_shares
from vaezoo.metrics.divergences import gaussian_log_prob
from vaezoo.nn.critics import call_frozen, density_ratio, mlp_critic
from vaezoo.nn.posteriors import Posterior
from vaezoo.nn.priors import Prior

OPTIONS = "model.penalty_options"


def total_correlation(code: Tensor, mean: Tensor, logvar: Tensor, images: int) -> Tensor:
    """log q(z) - sum_d log q(z_d) of the code of each image, in nats: (B, D) three times -> (B,). Chen et al. (2018).

    q(z) is estimated from the posteriors of the batch by stratified sampling: weight 1/N for an image's own posterior
    and (N - 1) / (N (B - 1)) for the others, with N = ``images`` in the training set. The estimate is biased, and 0
    for a batch of one image. Memory grows with B^2 D. ValueError if the set is smaller than the batch.
    """
    size = len(code)
    if images < size:
        raise ValueError(f"images must be the size of the training set, at least the {size} of the batch, got {images}")
    log_q = gaussian_log_prob(code[:, None], mean, logvar)  # (B, B, D): each code under each posterior
    log_weight = _stratified(size, images, code)
    of_dimensions = (log_q + log_weight[..., None]).logsumexp(1).sum(1)
    return (log_q.sum(2) + log_weight).logsumexp(1) - of_dimensions


def _stratified(size: int, images: int, like: Tensor) -> Tensor:
    """Log weights of posteriors (columns) for each code (rows), whose exponentials add up to 1: (B, B)."""
    if size == 1:
        return like.new_zeros(1, 1)
    others = like.new_full((size, size), math.log((images - 1) / (images * (size - 1))))
    return others.masked_fill(torch.eye(size, dtype=torch.bool, device=like.device), -math.log(images))


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


class Encoded(NamedTuple):
    """What a penalty may look at: images (B, C, H, W), their codes (B, D) with noise, and what belongs to them.

    ``images`` is the size of the training set, None for that of the batch. ``encode`` maps images to codes without
    noise, and ``decode`` codes to pixels in [0, 1]; both are differentiable.
    """

    x: Tensor
    code: Tensor
    posterior: Posterior | None = None
    prior: Prior | None = None
    images: int | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    decode: Callable[[Tensor], Tensor] | None = None


class Penalty(nn.Module):
    """A term of the objective with the weight ``weight`` and the name ``label``.

    ``is_batch_statistic`` marks biased estimates that are only meaningful in training, of a batch or by a critic.
    ``needs_moments``: the posterior must have independent Gaussian dimensions. ``critic_settings`` are the optimiser's
    settings for the parameters of ``critic``; empty without one. ConfigError for a negative weight.
    """

    label = "penalty"
    is_batch_statistic = False
    needs_moments = False

    def __init__(self, weight: float) -> None:
        super().__init__()
        at_least(weight, 0, f"{OPTIONS}.weight")
        self.weight = float(weight)
        self.critic_settings: dict[str, Any] = {}

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        """The unweighted penalty (B,), and in training the loss of the critic (B,) if there is one."""
        raise NotImplementedError

    def formula(self) -> str:
        """The weighted term as text, such as ``5 tc``."""
        return f"{self.weight:g} {self.label}"


class TotalCorrelation(Penalty):
    """beta-TCVAE (Chen et al., 2018): with a weight of beta - 1, the objective has beta times the total correlation.

    On several devices it is the statistic of the whole batch.
    """

    label = "tc"
    is_batch_statistic = True
    needs_moments = True

    def __init__(self, latent_dim: int, *, weight: float = 5.0) -> None:
        super().__init__(weight)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        moments = None if seen.posterior is None else seen.posterior.moments()
        if moments is None:
            raise ConfigError(
                "model.penalty=total_correlation needs a posterior with independent Gaussian dimensions, got another"
                " one; choose model.posterior=diagonal"
            )
        rows = batch_shares.whole_batch(torch.cat([seen.code, *moments], 1))
        whole_code, mean, logvar = rows.chunk(3, 1)
        # An evaluation's batch may be larger than a small training set.
        mean_of_batch = total_correlation(whole_code, mean, logvar, max(seen.images or 0, len(rows))).mean()
        return batch_shares.statistic(mean_of_batch).expand(len(seen.code)), None


class CriticTC(Penalty):
    """FactorVAE (Kim and Mnih, 2018): the total correlation by a critic that tells codes from permuted ones.

    ``widths`` are the critic's hidden layers; the paper has six of 1000, which are slow on a CPU. The penalty moves the
    encoder only, the critic's loss the critic only. ConfigError for invalid settings.
    """

    label = "tc"
    is_batch_statistic = True

    def __init__(
        self,
        latent_dim: int,
        *,
        weight: float = 35.0,
        widths: Sequence[int] = (256,) * 3,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.5, 0.9),
    ) -> None:
        super().__init__(weight)
        for width in widths:
            at_least(width, 1, f"each of {OPTIONS}.widths")
        above(lr, 0, f"{OPTIONS}.lr")
        if len(betas) != 2 or not all(0 <= decay < 1 for decay in betas):
            raise ConfigError(f"{OPTIONS}.betas must be two numbers from 0 to below 1, got {list(betas)}")
        self.critic = mlp_critic(latent_dim, widths, 2)
        self.critic_settings = {"lr": float(lr), "betas": [float(decay) for decay in betas]}

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = seen.code
        penalty = density_ratio(call_frozen(self.critic, code)).to(code.dtype)
        if not self.training:
            return penalty, None
        joint, product = self.critic(torch.cat([code.detach(), permuted(code)])).to(code.dtype).chunk(2)
        return penalty, critic_loss(joint, product)


_CLASSES: dict[str, type[Penalty]] = dict(zip(PENALTIES, (TotalCorrelation, CriticTC), strict=True))


def make_penalty(name: str, latent_dim: int, options: Mapping[str, Any] | None = None) -> Penalty:
    """The penalty called ``name`` on codes of ``latent_dim`` numbers; ConfigError for an unknown name or option."""
    if name not in _CLASSES:
        raise ConfigError(f"model.penalty must be one of {', '.join(PENALTIES)}, got {name!r}")
    options = dict(options or {})
    check_arguments(_CLASSES[name], options, key=OPTIONS, extra=("latent_dim",))
    factory: Any = _CLASSES[name]
    penalty: Penalty = factory(latent_dim, **options)
    return penalty
