"""Bounds on log p(x) against the exact likelihood of a model that is linear and Gaussian throughout."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vaezoo.commands.check.clauses import given, labels_for
from vaezoo.metrics.bounds import elbo_terms, importance_weighted_bound
from vaezoo.metrics.divergences import gaussian_kl, gaussian_log_prob
from vaezoo.models import Autoencoder
from vaezoo.nn.posteriors.gaussian import DiagonalGaussian
from vaezoo.nn.priors.gaussian import StandardNormal

PIXELS, LATENT = 50, 10
GAP = 0.327
"""Nats that the best factorised posterior costs with the weights below, to three digits."""


class LinearGaussian(nn.Module):
    """x = W z + noise of variance 1, with the best factorised posterior, its variances times ``spread``."""

    device = torch.device("cpu")

    def __init__(self, spread: float = 1.0, log_scale: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(PIXELS, LATENT, generator=generator, dtype=torch.float64)
        self.precision = torch.eye(LATENT, dtype=torch.float64) + self.weight.T @ self.weight
        self.spread, self.log_scale, self.largest_batch = spread, log_scale, 0
        self.eval()

    def images(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        code, noise = (torch.randn(count, size, generator=generator, dtype=torch.float64) for size in (LATENT, PIXELS))
        return (code @ self.weight.T + noise).view(count, 1, 5, 10)

    def posterior(self, x: Tensor) -> DiagonalGaussian:
        mean = torch.linalg.solve(self.precision, self.weight.T @ x.flatten(1).T).T
        return DiagonalGaussian(mean, (self.spread / self.precision.diagonal()).log().expand_as(mean))

    def log_likelihood(self, x: Tensor, code: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(x))
        log_prob = gaussian_log_prob(x.flatten(1), code @ self.weight.T, torch.zeros((), dtype=x.dtype)).sum(1)
        return log_prob + self.log_scale

    def prior(self) -> StandardNormal:
        return StandardNormal(LATENT, self.device)

    def exact(self, x: Tensor) -> Tensor:
        covariance = torch.eye(PIXELS, dtype=torch.float64) + self.weight @ self.weight.T
        zero = torch.zeros(PIXELS, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x.flatten(1)) + self.log_scale

    def gap(self) -> float:
        """KL from the posterior in use to the true one, which is what the ELBO lacks."""
        best = 0.5 * (self.precision.diagonal().log().sum() - torch.logdet(self.precision)).item()
        return best + LATENT / 2 * (self.spread - 1 - math.log(self.spread))

    def efficiency(self) -> float:
        """1 / E[w^2] for weights w of mean 1: the share of draws that count, when there are many."""
        scale = self.precision.diagonal().rsqrt()
        eigenvalues = torch.linalg.eigvalsh(scale[:, None] * self.precision * scale)
        factors = eigenvalues * self.spread**0.5 / (2 * eigenvalues - 1 / self.spread).sqrt()
        return 1 / factors.prod().item()


def standard_error(values: Tensor) -> float:
    return (values.std() / len(values) ** 0.5).item()


def test_the_bound_of_one_draw_is_the_elbo_in_expectation() -> None:
    for spread, gap in ((1.0, GAP), (2.0, GAP + 5 * (1 - math.log(2))), (0.5, GAP + 5 * (math.log(2) - 0.5))):
        model = LinearGaussian(spread)
        assert model.gap() == pytest.approx(gap, abs=1e-3)
        x = model.images(4000)
        missing = model.exact(x) - importance_weighted_bound(model, x, 1)[0]
        assert missing.mean().item() == pytest.approx(gap, abs=3 * standard_error(missing))


@pytest.mark.parametrize(
    ("spread", "gaps"),
    [(1.0, (0.095, 0.014, 0.002)), (2.0, (0.349, 0.028, 0.003)), (0.5, (0.741, 0.303, 0.133))],
    ids=["best", "over-dispersed", "under-dispersed"],
)
def test_the_bound_rises_to_the_exact_likelihood_as_fast_as_the_posterior_allows(
    spread: float, gaps: tuple[float, ...]
) -> None:
    """The gaps are those of another implementation, on other weights that cost 0.324 nats."""
    model = LinearGaussian(spread)
    x = model.images(800)
    exact, last = model.exact(x), math.inf
    for k, gap in zip((5, 50, 500), gaps, strict=True):
        missing = exact - importance_weighted_bound(model, x, k, seed=k)[0]
        error = standard_error(missing)
        assert missing.mean().item() == pytest.approx(gap, abs=4 * error + 0.05 * gap)
        assert -3 * error < missing.mean().item() < last
        last = missing.mean().item()


def test_the_effective_sample_size_is_that_of_the_weights_variance() -> None:
    """Shown where w^2 has a finite variance as well: with thinner tails the mean of w^2 needs far more draws."""
    model = LinearGaussian(2.0)
    _, ess = importance_weighted_bound(model, model.images(200), 2000)
    assert ess.mean().item() == pytest.approx(2000 * model.efficiency(), rel=0.02)


def test_too_narrow_a_posterior_shows_in_the_effective_sample_size() -> None:
    """The sizes are those of another implementation, on other weights that cost 0.324 nats."""
    x = LinearGaussian().images(100)
    for spread, expected in ((1.0, 834), (2.0, 497), (0.5, 79)):
        _, ess = importance_weighted_bound(LinearGaussian(spread), x, 2000)
        assert ((ess >= 1) & (ess <= 2000)).all()
        assert ess.mean().item() == pytest.approx(expected, abs=3 * standard_error(ess) + 0.03 * expected)


def test_equal_weights_count_in_full_and_give_the_exact_likelihood() -> None:
    """With a diagonal W'W the best factorised posterior is the true one, so that every weight is p(x)."""
    model = LinearGaussian()
    model.weight = torch.linalg.qr(model.weight).Q * 3
    model.precision = torch.eye(LATENT, dtype=torch.float64) * 10
    x = model.images(20)
    bound, ess = importance_weighted_bound(model, x, 7)
    torch.testing.assert_close(bound, model.exact(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(ess, torch.full((20,), 7.0, dtype=torch.float64))


@pytest.mark.parametrize("log_scale", [-1e5, 1e5])
def test_weights_of_any_size_neither_vanish_nor_overflow(log_scale: float) -> None:
    x = LinearGaussian().images(5)
    shifted, ess = importance_weighted_bound(LinearGaussian(log_scale=log_scale), x, 50)
    plain, plain_ess = importance_weighted_bound(LinearGaussian(), x, 50)
    assert shifted.dtype == torch.float64
    torch.testing.assert_close(shifted - log_scale, plain, rtol=0, atol=1e-8)
    torch.testing.assert_close(ess, plain_ess, rtol=1e-6, atol=0)


def test_the_budget_bounds_what_is_decoded_and_changes_nothing_else() -> None:
    model = LinearGaussian()
    x = model.images(150)  # two blocks of noise
    whole = importance_weighted_bound(model, x, 30)
    terms = elbo_terms(model, x, draws=3)
    for images in (1, 7, 128, 300):
        model.largest_batch = 0
        parts = importance_weighted_bound(model, x, 30, budget=images * PIXELS)
        assert model.largest_batch <= images
        for part, expected in zip(parts, whole, strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)
        recon, _ = elbo_terms(model, x, draws=3, budget=images * PIXELS)
        assert model.largest_batch <= images
        torch.testing.assert_close(recon, terms[0], rtol=1e-12, atol=1e-12)


def test_no_two_images_get_the_same_noise() -> None:
    model = LinearGaussian()
    x = model.images(1).repeat(300, 1, 1, 1)
    bound, _ = importance_weighted_bound(model, x, 1)
    assert len(bound.unique()) == 300


def test_a_seed_means_the_same_numbers_and_leaves_the_global_random_state() -> None:
    model = LinearGaussian()
    x = model.images(10)
    state = torch.get_rng_state()
    bounds = [importance_weighted_bound(model, x, 3, seed=seed)[0] for seed in (0, 0, 1)]
    recons = [elbo_terms(model, x, seed=seed)[0] for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    for first, second, other in (bounds, recons):
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_elbo_terms_are_their_closed_forms() -> None:
    """E|x - Wz|^2 is the distance at the mean plus the variances through W."""
    model = LinearGaussian(2.0)
    x = model.images(2000)
    posterior = model.posterior(x)
    recon, kl = elbo_terms(model, x, draws=4)
    spread = (posterior.logvar.exp() * model.weight.square().sum(0)).sum(1)
    distance = (x.flatten(1) - posterior.mean @ model.weight.T).square().sum(1)
    expected = 0.5 * (distance + spread + PIXELS * math.log(2 * math.pi))
    assert standard_error(recon - expected) < 0.06
    assert (recon - expected).mean().item() == pytest.approx(0, abs=3 * standard_error(recon - expected))
    torch.testing.assert_close(kl, gaussian_kl(*posterior))
    missing = model.exact(x) + expected + kl.sum(1)
    torch.testing.assert_close(missing, torch.full_like(missing, model.gap()), rtol=0, atol=1e-9)


def test_every_variant_has_terms_and_those_with_posteriors_a_bound_above_them(
    variant: str, make_model: Callable[..., Autoencoder]
) -> None:
    model = make_model(variant, "model.widths=[8]", image_shape=[1, 8, 8]).eval()
    x = torch.rand(6, 1, 8, 8).round()
    labels = labels_for(model, 6) if model.is_conditional else None
    recon, kl = elbo_terms(model, x, labels=labels, draws=50)
    assert recon.shape == (6,)
    model = given(model, 6)
    if model.posterior(x) is None:
        rate = model.rate(x)
        assert torch.equal(kl, torch.zeros(6, 0) if rate is None else rate.double()[:, None])
        torch.testing.assert_close(recon.float(), -model.log_likelihood(x, model.encode(x)).detach())
        with pytest.raises(ValueError, match="needs a posterior"):
            importance_weighted_bound(model, x, 2)
    else:
        bound, _ = importance_weighted_bound(model, x, 500, labels=labels)
        assert bound.mean() > -(recon + kl.sum(1)).mean()
        assert not bound.requires_grad


def test_a_model_without_prior_is_refused() -> None:
    model = LinearGaussian()
    model.prior = lambda: None  # type: ignore[assignment, return-value]
    with pytest.raises(ValueError, match="needs a prior"):
        importance_weighted_bound(model, model.images(2), 2)


def test_a_model_in_training_and_empty_requests_are_refused() -> None:
    model = LinearGaussian()
    x = model.images(2)
    with pytest.raises(ValueError, match="k of at least 1, got 2 and 0"):
        importance_weighted_bound(model, x, 0)
    with pytest.raises(ValueError, match="draws of at least 1, got 0 and 1"):
        elbo_terms(model, x[:0])
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        elbo_terms(model, x)
