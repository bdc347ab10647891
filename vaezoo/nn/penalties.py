"""Penalties on codes that are added to a training objective. They know no encoders."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaezoo.config.choices import PENALTIES
from vaezoo.config.errors import ConfigError
from vaezoo.config.validation import above, at_least, check_arguments
from vaezoo.distributed import batch_shares
from vaezoo.metrics.images import ssim
from vaezoo.nn.critics import call_frozen, density_ratio, mlp_critic
from vaezoo.nn.discrepancies import KERNELS, dip, mmd, sliced_wasserstein, total_correlation
from vaezoo.nn.posteriors import Moments, Posterior
from vaezoo.nn.priors import Prior

OPTIONS = "model.penalty_options"


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

    ``is_batch_statistic`` marks biased estimates that are only meaningful in training, of a batch or by a critic;
    ``is_unbiased_statistic`` those of a batch whose expectation is the same at every batch size. ``needs_moments``: the
    posterior must have independent Gaussian dimensions; ``needs_prior``: codes are compared with draws of the prior.
    ``critic_settings`` are the optimiser's settings for the parameters of ``critic``; empty without one. ConfigError
    for a negative weight.
    """

    label = "penalty"
    is_batch_statistic = False
    is_unbiased_statistic = False
    needs_moments = False
    needs_prior = False

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


def of_batch(statistic: Tensor, seen: Encoded) -> Tensor:
    """A statistic of the whole batch, (), as the penalty of each image of this share: (B,)."""
    return batch_shares.statistic(statistic).expand(len(seen.code))


def draws_of_prior(seen: Encoded, count: int) -> Tensor:
    """Codes (count, D) of the prior, without gradients.

    The global generator draws them, whose state is equal on all ranks, so that ``count`` must be that of the whole
    batch. A learned prior is not drawn towards the codes by a penalty; the KL divergence does that.
    """
    assert seen.prior is not None
    return seen.prior.sample(count).detach().to(seen.code.dtype)


def _moments(seen: Encoded, name: str) -> Moments:
    moments = None if seen.posterior is None else seen.posterior.moments()
    if moments is None:
        raise ConfigError(
            f"model.penalty={name} needs a posterior with independent Gaussian dimensions, got another one; choose"
            " model.posterior=diagonal"
        )
    return moments


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
        rows = batch_shares.whole_batch(torch.cat([seen.code, *_moments(seen, "total_correlation")], 1))
        whole_code, mean, logvar = rows.chunk(3, 1)
        # An evaluation's batch may be larger than a small training set.
        mean_of_batch = total_correlation(whole_code, mean, logvar, max(seen.images or 0, len(rows))).mean()
        return of_batch(mean_of_batch, seen), None


class DIP(Penalty):
    """DIP-VAE (Kumar et al., 2018): the squared distance of the codes' covariance from I (see ``discrepancies.dip``).

    The covariance is that of means for kind ``i`` and of codes for kind ``ii``. ``weight`` is that of covariances, the
    paper's lambda_od, and ``diagonal`` that of variances relative to it, lambda_d / lambda_od; by default 10 for kind i
    and 1 for kind ii, as in disentanglement_lib. On several devices it is the statistic of the whole batch.
    """

    label = "dip"
    is_batch_statistic = True
    needs_moments = True

    def __init__(
        self,
        latent_dim: int,
        *,
        weight: float = 10.0,
        kind: Literal["i", "ii"] = "ii",
        diagonal: float | None = None,
    ) -> None:
        super().__init__(weight)
        self.kind, self.diagonal = kind, {"i": 10.0, "ii": 1.0}[kind] if diagonal is None else float(diagonal)
        at_least(self.diagonal, 0, f"{OPTIONS}.diagonal")

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        mean, logvar = batch_shares.whole_batch(torch.cat(_moments(seen, "dip"), 1)).chunk(2, 1)
        return of_batch(dip(mean, logvar if self.kind == "ii" else None, self.diagonal), seen), None


class MMD(Penalty):
    """The maximum mean discrepancy of codes and as many new draws of the prior (Tolstikhin et al., 2018).

    ``kernel`` is ``imq`` (the paper's) or ``rbf`` (that of Zhao et al., 2017); see ``discrepancies``. Single values may
    be negative. On several devices it is the statistic of the whole batch.
    """

    label = "mmd"
    is_unbiased_statistic = True
    needs_prior = True

    def __init__(self, latent_dim: int, *, weight: float = 100.0, kernel: Literal["imq", "rbf"] = "imq") -> None:
        super().__init__(weight)
        self.kernel = KERNELS[kernel]

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = batch_shares.whole_batch(seen.code)
        return of_batch(mmd(code, draws_of_prior(seen, len(code)), self.kernel), seen), None


class SlicedWasserstein(Penalty):
    """The distance of codes from as many new draws of the prior, on random directions (Kolouri et al., 2018).

    On several devices it is the statistic of the whole batch.
    """

    label = "swd"
    is_batch_statistic = True
    needs_prior = True

    def __init__(self, latent_dim: int, *, weight: float = 100.0, projections: int = 50) -> None:
        super().__init__(weight)
        at_least(projections, 1, f"{OPTIONS}.projections")
        self.projections = projections

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        code = batch_shares.whole_batch(seen.code)
        draws = draws_of_prior(seen, len(code))
        directions = F.normalize(torch.randn(self.projections, code.shape[1], device=code.device).to(code.dtype))
        return of_batch(sliced_wasserstein(code, draws, directions), seen), None


class SSIM(Penalty):
    """1 - SSIM of each image and its reconstruction from the drawn code (Wang et al., 2004), beside the likelihood.

    It is no log likelihood, and no part of ``recon`` or the ELBO.
    """

    label = "one_minus_ssim"

    def __init__(self, latent_dim: int, *, weight: float = 100.0) -> None:
        super().__init__(weight)

    def forward(self, seen: Encoded) -> tuple[Tensor, Tensor | None]:
        assert seen.decode is not None
        pixels = seen.decode(seen.code)
        with torch.autocast(pixels.device.type, enabled=False):
            return 1 - ssim(seen.x, pixels), None

    def formula(self) -> str:
        return f"{self.weight:g} (1 - SSIM)"


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
        above(lr, 0, f"{OPTIONS}.lr")
        if len(betas) != 2 or not all(0 <= decay < 1 for decay in betas):
            raise ConfigError(f"{OPTIONS}.betas must be two numbers from 0 to below 1, got {list(betas)}")
        self.critic = mlp_critic(latent_dim, widths, self.logits)
        self.critic_settings = {"lr": float(lr), "betas": [float(decay) for decay in betas]}


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
        penalty = density_ratio(call_frozen(self.critic, code)).to(code.dtype)
        if not self.training:
            return penalty, None
        joint, product = self.critic(torch.cat([code.detach(), permuted(code)])).to(code.dtype).chunk(2)
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
        penalty = F.softplus(-call_frozen(self.critic, code).to(code.dtype))[:, 0]
        if not self.training:
            return penalty, None
        draws = batch_shares.own_rows(draws_of_prior(seen, batch_shares.size_of_whole(len(code))), len(code))
        of_draws, of_codes = self.critic(torch.cat([draws, code.detach()])).to(code.dtype)[:, 0].chunk(2)
        return penalty, F.softplus(-of_draws) + F.softplus(of_codes)


_CLASSES: dict[str, type[Penalty]] = dict(
    zip(PENALTIES, (TotalCorrelation, CriticTC, DIP, MMD, SlicedWasserstein, SSIM, Adversarial), strict=True)
)


def make_penalty(name: str, latent_dim: int, options: Mapping[str, Any] | None = None) -> Penalty:
    """The penalty called ``name`` on codes of ``latent_dim`` numbers; ConfigError for an unknown name or option."""
    if name not in _CLASSES:
        raise ConfigError(f"model.penalty must be one of {', '.join(PENALTIES)}, got {name!r}")
    options = dict(options or {})
    check_arguments(_CLASSES[name], options, key=OPTIONS, extra=("latent_dim",))
    factory: Any = _CLASSES[name]
    penalty: Penalty = factory(latent_dim, **options)
    return penalty
